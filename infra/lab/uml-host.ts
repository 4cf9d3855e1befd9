/**
 * One of several hosts in a user-mode-linux kernel, a network namespace each: a kernel takes two seconds and a core to
 * boot, a namespace in it next to nothing. To whoever talks to them they are different machines with the same kernel.
 */
import type { Uml } from './uml.ts';

export interface UmlHost {
  readonly name: string;
  /** Runs shell commands there. @throws Error with the output unless the last ends with status 0 within `timeoutMs` (10 s) */
  exec(commands: string, timeoutMs?: number): Promise<string>;
}

/** The host that owns the cards whose `host` is this name. The commands' standard input is their own text. */
export function umlHost(uml: Uml, name: string): UmlHost {
  return {
    name,
    exec: (commands, timeoutMs) =>
      uml.exec(
        `ip netns exec ${name} bash --norc --noprofile <<'END-OF-HOST'\n${commands}\nEND-OF-HOST`,
        timeoutMs,
      ),
  };
}
