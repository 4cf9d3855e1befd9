import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHANGES_A_CHILD_REKEY, type Rekey } from '../../infra/demo/ike.ts';
import { peerRecord } from '../../infra/demo/report.ts';
import { type Actor, PEERS, type Stage, setStage } from '../../infra/demo/stage.ts';
import { createLab, type Lab } from '../../infra/lab/lab.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { missing } from '../e2e/fixture/requirements.ts';

const SECONDS = Number(process.env.MOORING_REKEY_SECONDS ?? 60);
const REKEY_EVERY_MS = 3_000;
const MOVE_EVERY_MS = 1_700;
/** What a rekey replaced is kept for so long (strongSwan's `delete_rekeyed_delay`). */
const OLD_LIVES_MS = 6_000;

describe.skipIf(missing('rekeys during moves', 'uml', 'strongswan', 'libreswan'))(
  'unmodified IKE daemons that renew child and IKE associations every 3 s during moves',
  () => {
    let lab: Lab;
    let stage: Stage;
    const rekeys: Rekey[] = [];

    beforeAll(async () => {
      lab = await createLab({ name: 'rekeys' });
      stage = await setStage(lab, { say: (text) => console.info(text) }, 'auto');
    });
    afterAll(() => lab?.close());

    it('R51, R52: lose no packet, take every SPI from the lease, and notice no move', async () => {
      const { traffic, actors } = stage;
      await traffic.start();
      await delay(500);
      const fromMs = monotonicMs();
      const untilMs = fromMs + SECONDS * 1_000;
      let moves = 0;
      const wander = async ({ agent }: Actor) => {
        for (let turn = 0; monotonicMs() < untilMs; turn += 1) {
          const link = turn % 2 === 0 ? 'cell0' : 'wifi0';
          await agent.use(link);
          await agent.until(({ path }) => path?.link === link, `on ${link}`);
          moves += 1;
          await delay(MOVE_EVERY_MS);
        }
      };
      const renew = async (actor: Actor) => {
        for (let dueMs = fromMs; monotonicMs() < untilMs; dueMs += REKEY_EVERY_MS) {
          await delay(Math.max(0, dueMs - monotonicMs()));
          rekeys.push(...(await actor.rekey()));
        }
      };
      await Promise.all(actors.flatMap((actor) => [wander(actor), renew(actor)]));
      const toMs = monotonicMs();
      await delay(OLD_LIVES_MS);
      const flows = await Promise.all(
        actors.map(async ({ name }) => ({ name, ...(await traffic.measure(name, { fromMs, toMs })).both })),
      );
      await traffic.pause();
      // What came and went in between is in neither listing: of each device's rekeys only one shows.
      const childRekeys = rekeys.filter(({ of }) => of === 'child').length;
      const unlisted = (childRekeys - actors.length) * CHANGES_A_CHILD_REKEY;
      const changes = (await stage.associationChanges()) + unlisted;
      for (const capture of stage.peerCaptures) await capture.stop();
      const peer = peerRecord(
        stage.peerCaptures.flatMap((capture) => capture.frames()),
        Object.values(PEERS).map(({ address }) => address),
        rekeys,
        changes,
      );
      console.info(
        `${moves} moves and ${rekeys.length} rekeys in ${Math.round((toMs - fromMs) / 1000)} s: ` +
          flows
            .map(({ name, lost, sent, gapMs }) => `${name} lost ${lost} of ${sent}, longest gap ${gapMs} ms`)
            .join('; '),
      );
      expect(moves).toBeGreaterThan(SECONDS);
      expect(rekeys.length).toBeGreaterThan(SECONDS);
      expect(await traffic.socketDrops()).toBe(0);
      for (const { name, lost, duplicated } of flows)
        expect({ name, lost, duplicated }).toEqual({ name, lost: 0, duplicated: 0 });
      expect(peer.ikeOrSaChanges).toBe(0);
      for (const [address, spis] of Object.entries(peer.spisByAddress)) {
        const blocks = actors.flatMap(({ lease }) => (lease.address === address ? [lease.spis] : []));
        if (blocks.includes(null)) continue;
        expect(
          spis.filter(
            (spi) => !blocks.some((block) => spi >= block!.first && spi < block!.first + block!.count),
          ),
          address,
        ).toEqual([]);
      }
    });
  },
);
