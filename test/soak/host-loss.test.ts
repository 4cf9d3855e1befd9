import { stateHostLoss } from '../e2e/fixture/host-loss-statements.ts';

const [associated, talking] = [8, 60];
const silent = Number(process.env.MOORING_SESSIONS ?? 10_000) - associated - talking;
const times = Number(process.env.MOORING_LOSSES ?? 5);

stateHostLoss('userspace', { associated, talking, silent }, times);
stateHostLoss('xdp', { associated, talking, silent }, times);
