import { stateNonces } from './fixture/nonce-statements.ts';

stateNonces(20);
