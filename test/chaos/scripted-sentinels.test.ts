import { withSentinels } from '../../infra/lab/redis-shapes.ts';
import { tellHistories } from './histories.ts';

tellHistories('a primary, two replicas and sentinels', () =>
  withSentinels({ settings: ['min-replicas-to-write 1', 'min-replicas-max-lag 4'] }),
);
