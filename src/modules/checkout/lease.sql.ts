import { type Reader, sql } from '../../platform/db.ts';

/** Which worker owns an order, and under which of its leases: the fencing token. */
export type Owner = Readonly<{ workerId: string; epoch: number }>;

const register = sql(
  'lease.register',
  `INSERT INTO workers (id, epoch, leased_until, host, pid)
   VALUES ($1, nextval('worker_epochs'), clock_timestamp() + $2::integer * interval '1 second', $3, $4)
   ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, leased_until = excluded.leased_until
   RETURNING epoch`,
);

/** A lease that has run out stays lost: the orders may be somebody else's already. */
const renew = sql(
  'lease.renew',
  `UPDATE workers SET leased_until = clock_timestamp() + $3::integer * interval '1 second'
    WHERE id = $1 AND epoch = $2 AND leased_until > clock_timestamp()
   RETURNING epoch`,
);

const release = sql('lease.release', 'DELETE FROM workers WHERE id = $1 AND epoch = $2');

const forgetLongGone = sql(
  'lease.forget_long_gone',
  `DELETE FROM workers WHERE leased_until < clock_timestamp() - interval '1 day'`,
);

/** Takes a new lease for `workerId` and returns its epoch. */
export async function registerWorker(
  db: Reader,
  worker: { id: string; leaseSeconds: number; host: string; pid: number },
): Promise<number> {
  await db.query(forgetLongGone);
  const [row] = await db.query<{ epoch: number }>(register, [worker.id, worker.leaseSeconds, worker.host, worker.pid]);
  if (!row) throw new Error('Registering a worker returned no epoch');
  return row.epoch;
}

/** Extends the lease; false when it has been lost. */
export async function renewLease(db: Reader, owner: Owner, leaseSeconds: number): Promise<boolean> {
  const rows = await db.query(renew, [owner.workerId, owner.epoch, leaseSeconds]);
  return rows.length > 0;
}

/** Gives the lease up: what it owned can be taken at once. */
export async function releaseLease(db: Reader, owner: Owner): Promise<void> {
  await db.query(release, [owner.workerId, owner.epoch]);
}
