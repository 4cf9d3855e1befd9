import { stateHostLoss } from '../e2e/fixture/host-loss-statements.ts';

const sessions = Number(process.env.MOORING_SESSIONS ?? 10_000);

stateHostLoss(sessions, 'userspace');
stateHostLoss(sessions, 'xdp');
