import { cluster } from '../../infra/lab/redis-shapes.ts';
import { tellHistories } from './histories.ts';

tellHistories('a cluster of six', () => cluster());
