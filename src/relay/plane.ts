import type { EngineCommand } from '../datapath/engine-api.ts';
import { socketAddress } from '../protocol/address.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Lease, LeaseEvent, Session } from '../protocol/lease.ts';
import type { OperatorPlane, RelayPlane, Sealing, SessionState, Tunnel } from '../protocol/relay-plane.ts';
import type { Registry } from '../registry/registry.ts';
import { CONTROL } from '../tunnel/wire.ts';
import { inTurns } from './in-turns.ts';
import { sealRoot } from './root-sealing.ts';
import { checkSealingProof } from './sealing-proof.ts';
import type { ServedAnchor } from './served-anchor.ts';

type ExtendedEvent = Extract<LeaseEvent, { type: 'extended' }>;

/** What was extended may have aged by so much until its owner looks, milliseconds. */
const HEARD_WITHIN_MS = 500;
/** Roots sealed in a turn of the event loop: half a millisecond. */
const SEALED_A_TURN = 4;

/** The relay's side of the relay plane: every call ends in the engine of the relay that owns the anchor. */
export function createRelayPlane(options: {
  /** The anchor as served here; throws ERR_MOORING_NOT_OWNER. */
  readonly owned: (anchor: string) => ServedAnchor;
  readonly engine: { command(command: EngineCommand): Promise<unknown> };
  readonly registry: Registry;
  readonly port: number;
  /** Inner MTU, octets. */
  readonly mtu: number;
  readonly adopt: (anchor: string, epoch: bigint, sessions: readonly SessionState[]) => Promise<void>;
  /** Resolves when the anchor's state and keys are ready to be taken over. */
  readonly prepare: (anchor: string) => Promise<void>;
  /** Whether this relay, as standby, promises not to claim the anchor now. */
  readonly promise: (anchor: string, epoch: bigint) => boolean;
  readonly handOver: (anchor: string, to: string) => Promise<{ epoch: bigint; tookMs: number }>;
  readonly claim: (anchor: string) => Promise<bigint>;
}): RelayPlane & OperatorPlane {
  const { owned, engine, registry } = options;
  const sealingTurn = inTurns(SEALED_A_TURN);

  /** Whoever owns the anchor by now can do it: to be asked again is all that a stale epoch means to a caller. */
  async function activate(lease: string, { id, epoch }: ServedAnchor): Promise<Lease> {
    try {
      return await registry.activate(id, lease, epoch);
    } catch (cause) {
      if (!(cause instanceof MooringError) || cause.code !== 'ERR_MOORING_STALE_EPOCH') throw cause;
      throw new MooringError(
        'ERR_MOORING_NOT_OWNER',
        `anchor ${id} has another owner or epoch by now; ask the registry for it and try there`,
        { temporary: true, retryAfterMs: 200, cause, data: { anchor: id } },
      );
    }
  }

  /** K_root for whoever holds the key of the device's hello. */
  async function sealedTo(sealing: Sealing, session: Session, anchor: ServedAnchor): Promise<string> {
    const sealTo = await checkSealingProof(sealing, session.thumbprint);
    return sealingTurn(() => sealRoot(anchor.root(session), sealTo, session.id));
  }

  return {
    async install({ lease: wanted, sealing }) {
      const anchor = owned(wanted.anchor);
      await anchor.follow(wanted.id);
      const lease = anchor.lease(wanted.id);
      const session = lease === undefined ? undefined : anchor.session(lease.session);
      if (lease === undefined || session === undefined) {
        throw new MooringError(
          'ERR_MOORING_NO_LEASE',
          `lease ${wanted.id} is not in the registry that its owner follows: it ended, or was granted by a primary that is none any more; send the same request again`,
          { rsip: 306, temporary: true, retryAfterMs: 200, data: { lease: wanted.id } },
        );
      }
      // Told to the registry and written to the disk at the same time: what is acknowledged is in both.
      const [activated, , sealedRoot] = await Promise.all([
        lease.state === 'active' ? lease : activate(lease.id, anchor),
        anchor.witness(lease.id),
        sealing && sealedTo(sealing, session, anchor),
      ]);
      anchor.activated(lease.id);
      // spin: leases.acknowledge
      if (sealedRoot === undefined) return { lease: activated };
      const tunnel: Tunnel = {
        endpoints: anchor.endpoints.map((address) => ({ address, port: options.port })),
        index: session.index,
        sessionId: session.id,
        epoch: String(anchor.epoch),
        mtu: options.mtu,
        sealedRoot,
      };
      return { lease: activated, tunnel };
    },

    async apply({ anchor, event }) {
      const one = owned(anchor);
      // Also when it cannot be read in the stream now.
      if (event.type === 'ended') one.letEnd(event.lease.id);
      await one.follow();
      await one.journalled();
      if (event.type === 'extended' && !isHeard(event, one.lease(event.lease.id))) {
        throw new MooringError(
          'ERR_MOORING_QUARANTINED',
          `lease ${event.lease.id}: its owner does not hear of extension ${event.fence}; who answered it may be no primary any more: extend it again`,
          { temporary: true, retryAfterMs: 200, data: { anchor, lease: event.lease.id } },
        );
      }
      return {};
    },

    async rebind({ anchor, datagram, address, port }) {
      owned(anchor);
      const octets = Buffer.from(datagram, 'base64url');
      if (octets.length !== CONTROL.length) {
        throw new MooringError(
          'ERR_MOORING_BAD_INPUT',
          `datagram has ${octets.length} octets; a CONTROL datagram has ${CONTROL.length}`,
          { rsip: 205, data: { field: 'datagram' } },
        );
      }
      const believed = socketAddress(address, port);
      await engine.command({ op: 'rebind', anchor, datagram: new Uint8Array(octets), believed });
      return {};
    },

    async prepare({ anchor }) {
      if ((await registry.anchor(anchor)) === null) {
        throw new MooringError(
          'ERR_MOORING_NO_ANCHOR',
          `anchor ${anchor} is not declared; add it to \`pools\` of the configuration`,
          { data: { anchor } },
        );
      }
      await options.prepare(anchor);
      return {};
    },

    async adopt({ anchor, epoch, sessions }) {
      await options.adopt(anchor, BigInt(epoch), sessions);
      return {};
    },

    async handOver({ anchor, to }) {
      const { epoch, tookMs } = await options.handOver(anchor, to);
      return { epoch: String(epoch), tookMs };
    },

    async claim({ anchor }) {
      return { epoch: String(await options.claim(anchor)) };
    },

    async promise({ anchors }) {
      return {
        promised: anchors
          .filter(({ anchor, epoch }) => options.promise(anchor, BigInt(epoch)))
          .map(({ anchor }) => anchor),
      };
    },
  };
}

/**
 * Whether the owner's lease lasts as long as the registry answered, and has as many ports. In a history that was lost with a primary it does not, though the
 * owner has followed: it follows whoever came after.
 */
function isHeard({ fence, lease }: ExtendedEvent, held: Lease | undefined): boolean {
  if (held === undefined) return false;
  const [epoch, counter] = fence.split('-').map(BigInt) as [bigint, bigint];
  const [heldEpoch, heldCounter] = held.fence.split('-').map(BigInt) as [bigint, bigint];
  if (epoch === heldEpoch) return heldCounter >= counter;
  const hasPorts = (held.ports?.count ?? 0) >= (lease.ports?.count ?? 0);
  return hasPorts && held.remainingMs + HEARD_WITHIN_MS >= lease.remainingMs;
}
