import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { MooringError } from '../../src/protocol/errors.ts';
import { COMMANDS } from '../../src/registry/commands.gen.ts';
import { type Commands, commandConnection } from '../../src/registry/connection.ts';
import { reachRedis } from '../../src/registry/open.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { createStore } from '../../src/registry/store.ts';
import type { Log } from '../../src/telemetry/log.ts';
import type { Scene } from './scene.ts';

const AGAIN_MS = 200;

/** The scene's registry, as its processes reach it; asks until it is there, as whoever starts them again would. */
export async function openSceneRegistry(scene: Scene, name: string, log: Log): Promise<Registry> {
  const commands =
    scene.commandsFile === undefined
      ? COMMANDS
      : (JSON.parse(readFileSync(scene.commandsFile, 'utf8')) as Commands);
  for (;;) {
    try {
      const { client, close } = await reachRedis({ url: scene.redisUrl, name, log });
      const connection = commandConnection(client, commands, scene.quarantineMs);
      return createStore(connection, log, async () => close());
    } catch (error) {
      if (!(error instanceof MooringError && error.temporary)) throw error;
      log.warn({ error: error.message }, 'no registry yet');
      await wait(AGAIN_MS);
    }
  }
}
