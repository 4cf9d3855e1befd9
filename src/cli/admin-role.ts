import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Control } from '../admin/control-socket.ts';
import type { AdminParts } from '../admin/parts.ts';
import type { AdminSettings, Settings } from '../config/schema.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import { createPlanes, type Planes } from './planes.ts';
import type { Undo } from './serve.ts';

/** Opens the control socket and, where it is configured, the admin API for operators elsewhere. */
export async function startAdmin(
  settings: Settings,
  {
    control,
    registry,
    planes,
    log,
    undo,
  }: {
    readonly control: Control;
    readonly registry: Registry;
    readonly planes: Planes;
    readonly log: Log;
    readonly undo: Undo[];
  },
): Promise<void> {
  const [{ serveControl }, { createKnownAnchors }] = await Promise.all([
    import('../admin/control-socket.ts'),
    import('../admin/known-anchors.ts'),
  ]);
  const operators = planesOfOperators(settings, { registry, planes, log, undo });
  const parts: AdminParts = {
    registry,
    knownAnchors: createKnownAnchors(registry),
    planeFor: (relay) => operators.for(relay),
    log,
  };
  const socket = await serveControl(join(settings.dataDir, 'control.sock'), control, parts);
  undo.push(() => socket.close());
  if (settings.admin !== undefined) await startListener(settings.admin, control, parts, undo);
}

/** A signalling node's certificate may not have anchors handed over: an operator's node has one of its own. */
function planesOfOperators(
  settings: Settings,
  {
    registry,
    planes,
    log,
    undo,
  }: { readonly registry: Registry; readonly planes: Planes; readonly log: Log; readonly undo: Undo[] },
): Planes {
  const tls = settings.admin?.planeTls;
  if (tls === undefined || settings.relay !== undefined) return planes;
  const own = createPlanes(settings, registry, log, () => undefined, tls);
  undo.push(() => own.close());
  return own;
}

async function startListener(
  admin: AdminSettings,
  control: Control,
  parts: AdminParts,
  undo: Undo[],
): Promise<void> {
  const [{ createAuthentication }, { serveAdmin }, { createOperatorVerifier }] = await Promise.all([
    import('../admin/authentication.ts'),
    import('../admin/listener.ts'),
    import('../auth/operator-token.ts'),
  ]);
  const verifier = createOperatorVerifier({
    issuers: admin.issuers.map(({ caFile, ...issuer }) => ({
      ...issuer,
      ...(caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') }),
    })),
    clockToleranceS: 5,
    log: parts.log,
  });
  undo.push(() => verifier.close());
  const authenticate = createAuthentication({ verifier, url: admin.url });
  const metrics = () => control.metrics();
  const listener = await serveAdmin(admin, { parts, authenticate, metrics }, parts.log);
  undo.push(() => listener.close());
}
