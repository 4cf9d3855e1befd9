import { stateHostLoss } from '../e2e/fixture/host-loss-statements.ts';

stateHostLoss(Number(process.env.MOORING_SESSIONS ?? 10_000));
