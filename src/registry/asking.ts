import { type Answer, type Argument, type CommandName, type Connection, isRefused } from './connection.ts';
import { anchorKeys } from './keys.ts';
import { refusalError } from './refusals.ts';

/** Runs a command on an anchor; a refusal is thrown as its named error about `subject` (default: the anchor). */
export async function askAnchor(
  connection: Connection,
  command: CommandName,
  anchor: string,
  args: readonly Argument[],
  subject = `anchor ${anchor}`,
): Promise<Answer> {
  const answer = await connection.run(command, anchorKeys(anchor), args);
  if (isRefused(answer)) throw refusalError(answer.refused, subject, { data: { anchor } });
  return answer;
}
