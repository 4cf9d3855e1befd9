/** The live timeline: one line an event, with the seconds since the start. */
export interface Progress {
  say(text: string): void;
}

export function timeline(print: (line: string) => void): Progress {
  const startedMs = performance.now();
  return {
    say(text) {
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(5);
      print(`${seconds} s  ${text}`);
    },
  };
}
