import { Coalescer } from '../../platform/coalescer.ts';
import { type Database, isDataFault } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import {
  type GatewayAuthorization,
  GatewayRefusedRequest,
  GatewayUnanswered,
  type ListRequest,
} from './payments.service.ts';
import {
  findEnd,
  findEntry,
  type JournalRow,
  listAuthorizations,
  type Standing,
  writeEntries,
} from './simulated-gateway.sql.ts';

type JournalEntry = Omit<JournalRow, 'reference'>;

/** The book of the simulated gateway. What it cannot answer now is thrown as {@link GatewayUnanswered}. */
export type Journal = Readonly<{
  /** The first entry under a key stays; throws {@link GatewayRefusedRequest} when that one is of another request. */
  record(entry: JournalEntry): Promise<Standing>;
  find(key: string): Promise<JournalRow | undefined>;
  endOf(authorizationKey: string): Promise<JournalRow | undefined>;
  authorizations(request: ListRequest): Promise<readonly GatewayAuthorization[]>;
  close(): Promise<void>;
}>;

/** One batch at a time: each has a commit to pay for, so fewer and larger ones are cheaper than two that overlap. */
const limits = { waiting: 20_000, waitingPerKey: 64, batch: 1_000, inFlight: 1, waitMs: 8_000 };

/** Entries that come together are written in one commit. `onSplit` is told of batches that had to be split. */
export function openJournal(database: Database, onSplit: (error: unknown, size: number) => void): Journal {
  const line = new Coalescer<JournalRow, Standing>({
    name: 'journal of the simulated gateway',
    run: (entries) => writeEntries(database, entries),
    keyOf: (entry) => entry.authorization_key ?? entry.key,
    isMemberFault: isDataFault,
    onSplit,
    limits,
  });
  return {
    record: async (entry) => {
      const standing = await answered(line.submit({ ...entry, reference: newId() }));
      if (standing.entry && !isSameRequest(standing.entry, entry))
        throw new GatewayRefusedRequest(`${entry.key} was used before for another request`);
      return standing;
    },
    find: (key) => answered(findEntry(database, key)),
    endOf: (authorizationKey) => answered(findEnd(database, authorizationKey)),
    authorizations: (request) => answered(listAuthorizations(database, request)),
    close: () => database.close(),
  };
}

function isSameRequest(one: JournalEntry, other: JournalEntry): boolean {
  return (
    one.request_digest === other.request_digest &&
    one.operation === other.operation &&
    one.authorization_key === other.authorization_key
  );
}

async function answered<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (isDataFault(error))
      throw new GatewayRefusedRequest(`The journal cannot hold that: ${reason}`, { cause: error });
    throw new GatewayUnanswered(`The journal did not answer: ${reason}`, { cause: error });
  }
}
