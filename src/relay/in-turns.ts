/**
 * Runs what would hold this thread up by sheer number a few pieces a turn of the event loop, in order: meanwhile what comes in
 * is heard, and what is done is sent.
 */
export function inTurns(piecesATurn: number): <T>(work: () => T) => Promise<T> {
  const waiting: (() => void)[] = [];
  const turn = (): void => {
    for (const run of waiting.splice(0, piecesATurn)) run();
    if (waiting.length > 0) setImmediate(turn);
  };
  return (work) =>
    new Promise((resolve, reject) => {
      waiting.push(() => {
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
      if (waiting.length === 1) setImmediate(turn);
    });
}
