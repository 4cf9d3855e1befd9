import { stateNonces } from '../e2e/fixture/nonce-statements.ts';

stateNonces(200);
