/** What can befall a call to the simulated gateway. docs/simulated-gateway.md says of each what it does. */
export const gatewayFaults = [
  'decline',
  'capture_refused',
  'slow',
  'very_slow',
  'late_request',
  'lost_request',
  'lost_answer',
  'error',
  'rate_limited',
  'reset',
  'broken_answer',
] as const;

export type GatewayFault = (typeof gatewayFaults)[number];

/** The probability of each fault, from 0 to 1, for any one call. */
export type FaultRates = ReadonlyMap<GatewayFault, number>;

/** Reads a list such as `slow=0.05,lost_answer=0.01`. What cannot be read is in `faults`, in words. */
export function readFaultRates(list: string): Readonly<{ rates: FaultRates; faults: readonly string[] }> {
  const rates = new Map<GatewayFault, number>();
  const faults: string[] = [];
  for (const item of list.split(',').map((text) => text.trim())) {
    if (item === '') continue;
    const [name = '', probability = ''] = item.split('=').map((text) => text.trim());
    const fault = gatewayFaults.find((known) => known === name);
    if (!fault) faults.push(`there is no fault "${name}", only ${gatewayFaults.join(', ')}`);
    else if (rates.has(fault)) faults.push(`${fault} is named twice`);
    else if (!isProbability(item))
      faults.push(`${fault}=${probability} must be a probability from 0 to 1, such as 0.05`);
    else rates.set(fault, Number(probability));
  }
  return { rates, faults };
}

function isProbability(item: string): boolean {
  return /^[a-z_]+\s*=\s*(?:0|1|[01]?\.\d+)$/.test(item) && Number(item.split('=')[1]) <= 1;
}
