import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

/** A process of the benchmark that answers one question after the other. */
export type Child = Readonly<{
  pid: number;
  ask: <Answer>(question: object) => Promise<Answer>;
  close: () => Promise<void>;
}>;

/** Starts a script of `bench/`, which says when it is ready. */
export async function startChild(script: string, execArgv: readonly string[] = []): Promise<Child> {
  const child = fork(new URL(`../${script}`, import.meta.url), { execArgv: [...execArgv] });
  await answerOf(child, script);
  return {
    pid: child.pid ?? 0,
    ask: async <Answer>(question: object) => {
      child.send(question);
      return (await answerOf(child, script)) as Answer;
    },
    close: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}

async function answerOf(child: ChildProcess, script: string): Promise<unknown> {
  const gone = new AbortController();
  const died = (status: number | null): void =>
    gone.abort(new Error(`bench/${script} ended with status ${status} before it answered`));
  child.once('exit', died);
  try {
    const [answer] = await once(child, 'message', { signal: gone.signal });
    return answer;
  } catch (error) {
    throw gone.signal.aborted ? gone.signal.reason : error;
  } finally {
    child.off('exit', died);
  }
}

/** Makes this process one that says it is ready, answers questions with `answer`, and ends with the channel. */
export function answerParent<Question>(
  answer: (question: Question) => Promise<object>,
  close: () => Promise<void>,
): void {
  process.on('message', async (question) => process.send?.(await answer(question as Question)));
  process.on('disconnect', () => void close());
  process.send?.({});
}
