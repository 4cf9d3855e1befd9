import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import { GOLDEN } from './golden.ts';
import { enterRelayNetwork } from './relay-network.ts';
import { XDP_IS_MISSING } from './requirements.ts';
import { play } from './stage.ts';
import { type Story, stories, unlimited } from './story.ts';
import { EngineSubject } from './subject.ts';
import { compileMutant, type XdpMutation } from './xdp-mutants.ts';
import { XdpProgram, XdpSubject } from './xdp-subject.ts';

/** Faults that a careless change could plant in the XDP program. */
const MUTATIONS: readonly XdpMutation[] = [
  {
    name: 'a lease that is over still receives',
    file: 'downlink.h',
    find: 'if (of->now >= deadline_of(&of->lease->until_ns))',
    replace: 'if (0)',
  },
  {
    name: 'the deadline of an anchor does not bind downlink',
    file: 'downlink.h',
    find: 'if (of->now >= deadline_of(&anchor->deadline_ns))',
    replace: 'if (0)',
  },
  {
    name: 'a hold does not hold',
    file: 'way.h',
    find: 'return state == WAY_HOLD &&',
    replace: 'return state == WAY_HOLD ||',
  },
  {
    name: 'the other place of a way is read',
    file: 'way.h',
    find: '(const volatile __u64 *)&way->paths[gen & 1];',
    replace: '(const volatile __u64 *)&way->paths[(gen + 1) & 1];',
  },
  {
    name: 'a packet may come twice',
    file: 'window.h',
    find: 'return !is_set(window, number);',
    replace: 'return 1;',
  },
  {
    name: 'the window is half as long',
    file: 'window.h',
    find: 'highest - number >= WINDOW_BITS)',
    replace: 'highest - number >= WINDOW_BITS / 2)',
  },
  {
    name: 'what the window passed over stays set',
    file: 'window.h',
    find: 'window->ring[word & (RING_WORDS - 1)] = 0;',
    replace: '',
  },
  {
    name: 'any tag is right',
    file: 'uplink.h',
    find: 'if (work.tag != LOAD64(at + 8)) {',
    replace: 'if (work.tag == 1) {',
  },
  {
    name: 'the weaker tag may be chosen',
    file: 'uplink.h',
    find: 'if (is_data != (type == TYPE_DATA))',
    replace: 'if (is_data != (type == TYPE_DATA) && of->length == 0)',
  },
  {
    name: 'any CONTROL is authentic',
    file: 'uplink.h',
    find: 'if (LOAD8(at) != TYPE_CONTROL << 4)',
    replace: 'if (LOAD8(at) == TYPE_CONTROL << 4)',
  },
  {
    name: 'any port of a shared address is the session’s own',
    file: 'lookup.h',
    find: 'return (__u32)(port - lease->first_port) >> (lease->port_shift & 31) == 0;',
    replace: 'return (__u32)(port - lease->first_port) >> (lease->port_shift & 31) != 0x7fffffff;',
  },
  {
    name: 'the hop limit stays',
    file: 'dscp_ecn.h',
    find: 'LOAD8(at + 7) = packet->ttl - 1;',
    replace: 'LOAD8(at + 7) = packet->ttl;',
  },
  {
    name: 'DSCP is left out of the outer header',
    file: 'dscp_ecn.h',
    find: 'settings->ingress_dscp_mode == DSCP_COPY ? inner >> 2',
    replace: 'settings->ingress_dscp_mode == DSCP_KEEP ? inner >> 2',
  },
  {
    name: 'a device speaks to the host of the relay',
    file: 'uplink.h',
    find: 'if (look_up(&inner->destination, INDEX_ADDRESS, 0, &found)) {',
    replace:
      'if (look_up(&inner->destination, INDEX_ADDRESS, 0, &found) && !(found.value.flags & INDEX_HOST)) {',
  },
  {
    name: 'padding goes into the tunnel',
    file: 'downlink.h',
    find: 'if (padding > 0 &&',
    replace: 'if (padding > 2000 &&',
  },
  {
    name: 'a sequence is used twice',
    file: 'way.h',
    find: 'return __sync_fetch_and_add(last, 1) + 1;',
    replace: 'return __sync_fetch_and_add(last, 1) | 1;',
  },
  {
    name: 'the sender of a passed packet counts for two',
    file: 'relay.bpf.c',
    find: 'if (verdict != XDP_PASS)\n\t\t\ttell_sender(&of.up);',
    replace: 'tell_sender(&of.up);',
  },
];

const cannot = XDP_IS_MISSING === null ? '' : `: ${XDP_IS_MISSING}`;

describe.skipIf(cannot !== '')(`the stories find${cannot}`, () => {
  let interfaces: ReturnType<typeof enterRelayNetwork>;
  beforeAll(() => {
    interfaces = enterRelayNetwork();
  });

  for (const mutation of MUTATIONS) {
    test(mutation.name, () => {
      const program = new XdpProgram(compileMutant(mutation), interfaces);
      try {
        const compare = (story: Story) => {
          const userspace = new EngineSubject('userspace', createEngine, story.settings);
          const mutant = new XdpSubject(program, story.settings);
          play(story, [userspace, mutant], { ignoreNotices: true });
        };
        const drawn = stories({ minLength: 1, maxLength: 36 }).map(unlimited);
        const found = fc.check(fc.property(drawn, compare), {
          numRuns: 1_500,
          seed: 1,
          endOnFailure: true,
          examples: GOLDEN.map(({ story }) => [story]),
        });
        expect(found.failed).toBe(true);
      } finally {
        program.close();
      }
    });
  }
});
