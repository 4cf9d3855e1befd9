import { isMainThread } from 'node:worker_threads';
import { MooringError } from '../protocol/errors.ts';
import { type InterfaceAddress, listAddresses } from './addresses.ts';
import { ERRNO, lastErrno } from './errno.ts';
import { allocate, check, closeFd, libc } from './libc.ts';
import { type Link, listLinks } from './links.ts';
import { openNetlinkSocket, withNetlink } from './netlink.ts';
import { listRoutes, type Route } from './routes.ts';

const RTMGRP_LINK = 0x1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV4_ROUTE = 0x40;
const RTMGRP_IPV6_IFADDR = 0x100;
const RTMGRP_IPV6_ROUTE = 0x400;
const GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;

const F_SETFL = 4;
const F_SETOWN = 8;
const O_NONBLOCK = 0x800;
const O_ASYNC = 0x2000;

/** A link coming up is a handful of messages within a few milliseconds: they become one report. */
const SETTLE_MS = 5;

export interface Gateway {
  readonly family: 4 | 6;
  /** Null: the whole world is on the link. */
  readonly via: string | null;
  readonly metric: number;
  readonly table: number;
}

export interface LinkState extends Omit<Link, 'mac'> {
  readonly addresses: readonly Omit<InterfaceAddress, 'ifindex'>[];
  /** Default routes out of this link, of all tables, best metric first. */
  readonly gateways: readonly Gateway[];
}

export interface LinkSnapshot {
  readonly links: readonly LinkState[];
}

/** Links with their addresses and default routes as they are now. */
export function linkSnapshot(): LinkSnapshot {
  return withNetlink((netlink) => {
    const addresses = listAddresses(undefined, netlink);
    const defaults = listRoutes({}, netlink).filter(
      (route) => route.kind === 'unicast' && route.destination.endsWith('/0'),
    );
    const links = listLinks(netlink).map(({ mac: _, ...link }) => ({
      ...link,
      addresses: addresses
        .filter((address) => address.ifindex === link.ifindex)
        .map(({ ifindex: _, ...address }) => address),
      gateways: defaults
        .flatMap((route) => gatewaysOf(route, link.ifindex))
        .sort((one, other) => one.metric - other.metric),
    }));
    return { links };
  });
}

function gatewaysOf(route: Route, ifindex: number): Gateway[] {
  return route.hops
    .filter((hop) => hop.ifindex === ifindex)
    .map((hop) => ({ family: route.family, via: hop.via, metric: route.metric, table: route.table }));
}

/**
 * Reports the state of all links when it changes, within 10 ms, and once at the start (asynchronously). For the main thread: the
 * kernel announces changes by SIGIO, which only the main thread can take, so no thread waits and the
 * watch does not keep the process alive. `onError` hears of a snapshot that failed; the next change
 * tries again.
 */
export function watchLinks(
  onChange: (snapshot: LinkSnapshot) => void,
  onError: (error: unknown) => void = () => {},
): { close(): void } {
  if (!isMainThread) {
    throw new MooringError(
      'ERR_MOORING_MAIN_THREAD',
      'links are watched by signal, which only the main thread receives; call watchLinks there',
    );
  }
  const fd = openNetlinkSocket(GROUPS);
  const buffer = allocate(16 * 1024);
  let last = '';
  let timer: NodeJS.Timeout | undefined;
  let open = true;

  const report = () => {
    timer = undefined;
    if (!open) return;
    let snapshot: LinkSnapshot;
    try {
      snapshot = linkSnapshot();
    } catch (error) {
      onError(error);
      return;
    }
    const text = JSON.stringify(snapshot);
    if (text === last) return;
    last = text;
    onChange(snapshot);
  };
  const schedule = (delayMs: number) => {
    if (timer !== undefined) return;
    timer = setTimeout(report, delayMs);
    timer.unref();
  };
  const onSignal = () => {
    if (drain(fd, buffer)) schedule(SETTLE_MS);
  };

  holdSignal();
  listeners.add(onSignal);
  try {
    check('fcntl F_SETOWN', 'link monitor', libc.fcntl(fd, F_SETOWN, process.pid));
    check('fcntl F_SETFL', 'link monitor', libc.fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC));
  } catch (error) {
    listeners.delete(onSignal);
    closeFd(fd);
    throw error;
  }
  schedule(0);

  return {
    close() {
      if (!open) return;
      open = false;
      clearTimeout(timer);
      listeners.delete(onSignal);
      closeFd(fd);
    },
  };
}

const listeners = new Set<() => void>();
let holding = false;

/** Once for the life of the process: without a handler, a late SIGIO would end it. */
function holdSignal(): void {
  if (holding) return;
  holding = true;
  process.on('SIGIO', () => {
    for (const listener of listeners) listener();
  });
}

/** Empties the socket; true when something came, or so much that the kernel had to drop some. */
function drain(fd: number, buffer: Uint8Array): boolean {
  let something = false;
  for (;;) {
    if (libc.recv(fd, buffer, buffer.length, 0) >= 0) something = true;
    else if (lastErrno() === ERRNO.ENOBUFS) something = true;
    else return something;
  }
}
