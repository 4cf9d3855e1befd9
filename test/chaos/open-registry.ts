import { commandConnection, connectRedis } from '../../src/registry/connection.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { createStore } from '../../src/registry/store.ts';
import type { Log } from '../../src/telemetry/log.ts';
import { commandsWith } from './planted.ts';
import type { Scene } from './scene.ts';

/** The scene's registry, as its processes reach it. */
export async function openSceneRegistry(scene: Scene, name: string, log: Log): Promise<Registry> {
  const redis = connectRedis(scene.redisUrl, log, name);
  await redis.connect();
  const connection = commandConnection(redis, commandsWith(scene.planted), scene.quarantineMs);
  return createStore(connection, log, async () => redis.disconnect());
}
