import type { JobResult, PgBoss } from 'pg-boss';
import type { Delivery } from './deliver.ts';
import type { EventJob } from './message.ts';

/** What takes the deliveries of one endpoint. */
export type Places = Readonly<{
  /** Has deliveries looked for that are due. Whoever finds one has the next looked for. */
  wake: () => void;
}>;

type Place = { id: string; isBusy: boolean };

/** Places are woken. This is how long they rest otherwise, so that idle ones cost the database nothing. */
const restS = 3_600;

/**
 * Takes the deliveries of a queue from now on, up to `count` at the same time, none of which waits for another. While all
 * rest, one {@link Places.wake} costs one query.
 */
export async function openPlaces(
  boss: PgBoss,
  queue: string,
  count: number,
  deliver: (delivery: Delivery) => Promise<JobResult>,
): Promise<Places> {
  const places: Place[] = Array.from({ length: count }, () => ({ id: '', isBusy: false }));
  const wake = (): void => {
    const resting = places.find(({ isBusy }) => !isBusy);
    if (resting) boss.notifyWorker(resting.id);
  };
  const attend = async (place: Place, delivery: Delivery): Promise<JobResult> => {
    place.isBusy = true;
    wake();
    try {
      return await deliver(delivery);
    } finally {
      place.isBusy = false;
      boss.notifyWorker(place.id);
    }
  };
  for (const place of places)
    place.id = await boss.work<EventJob>(
      queue,
      { batchSize: 1, pollingIntervalSeconds: restS, perJobResults: true } as const,
      (jobs: Delivery[]) => Promise.all(jobs.map((delivery) => attend(place, delivery))),
    );
  return { wake };
}
