/** An amount in integer minor units (cents) of an ISO 4217 currency, as it travels on the wire. */
export type Money = Readonly<{ cents: number; currency: string }>;

/** `cents` minor units of `currency`. */
export function money(cents: number, currency: string): Money {
  return { cents, currency };
}
