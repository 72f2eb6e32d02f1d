import { describe, expect, it } from 'vitest';
import { Unavailable } from '../shared/refusal.ts';
import { CommitUnknown } from './db.ts';
import { repeatWhileUnknown } from './repeat-unknown.ts';

const forMs = 5_000;
const lost = () => new CommitUnknown(new Error('Connection terminated'));

/** Answers its calls with `outcomes`, the last of them for ever, and notes which of the calls were repeats. */
function scripted(...outcomes: ReadonlyArray<string | Error>) {
  const repeats: boolean[] = [];
  const run = async (isRepeat: boolean): Promise<string> => {
    const outcome = outcomes[Math.min(repeats.length, outcomes.length - 1)];
    repeats.push(isRepeat);
    if (outcome instanceof Error) throw outcome;
    return outcome ?? '';
  };
  return { run, repeats };
}

describe('a transaction whose outcome is known', () => {
  it('is run once', async () => {
    const { run, repeats } = scripted('done');
    expect(await repeatWhileUnknown(run, forMs)).toBe('done');
    expect(repeats).toEqual([false]);
  });

  it.each([new Unavailable('no database'), new Error('bad data')])('is not repeated after %s', async (error) => {
    const { run, repeats } = scripted(error);
    await expect(repeatWhileUnknown(run, forMs)).rejects.toBe(error);
    expect(repeats).toEqual([false]);
  });
});

describe('a transaction whose COMMIT was not answered', () => {
  it('is run again until it is, however often the database is away or the answer lost again', async () => {
    const { run, repeats } = scripted(lost(), new Unavailable('no database'), lost(), 'done');
    expect(await repeatWhileUnknown(run, forMs)).toBe('done');
    expect(repeats).toEqual([false, true, true, true]);
  });

  it('stays unknown after an error that says nothing about the first try', async () => {
    const fault = new Error('bad data');
    const { run, repeats } = scripted(lost(), fault);
    await expect(repeatWhileUnknown(run, forMs)).rejects.toMatchObject({ name: 'CommitUnknown', cause: fault });
    expect(repeats).toEqual([false, true]);
  });

  it('stays unknown when the time is over, were the last word that the database is away', async () => {
    const first = lost();
    const { run, repeats } = scripted(first, new Unavailable('no database'));
    await expect(repeatWhileUnknown(run, 60)).rejects.toBe(first);
    expect(repeats.length).toBeGreaterThan(1);
  });

  it('is repeated once even when there is no time for it', async () => {
    const { run } = scripted(lost(), 'done');
    expect(await repeatWhileUnknown(run, 0)).toBe('done');
  });
});
