/** A line of a basket at checkout, with what its product says about it. `unitPrice` in minor units. */
export type WantedLine = Readonly<{
  productId: string;
  quantity: number;
  unitPrice: number;
  isOnSale: boolean;
  maxPerOrder: number | null;
}>;

/** One checkout: its lines in the order of the basket. */
export type CheckoutRequest = Readonly<{
  lines: readonly WantedLine[];
  fulfilment: 'partial' | 'all_or_nothing';
  /** What the shopper believes the whole basket costs, in minor units. */
  expectedTotal: number | null;
}>;

export type Decision =
  | Readonly<{ verdict: 'sold'; productIds: readonly string[]; total: number }>
  | Readonly<{ verdict: 'total_changed' | 'short' | 'nothing_sellable' }>;

/**
 * Decides checkouts one after the other, as they stand, over `sellable` units per product. A line is sold whole
 * or not at all; what an earlier checkout takes is gone for the later ones.
 */
export function allocate(requests: readonly CheckoutRequest[], sellable: ReadonlyMap<string, number>): Decision[] {
  const left = new Map(sellable);
  return requests.map((request) => {
    const decision = decide(request, left);
    if (decision.verdict === 'sold') takeFrom(left, request, decision.productIds);
    return decision;
  });
}

function decide(request: CheckoutRequest, left: ReadonlyMap<string, number>): Decision {
  if (request.expectedTotal !== null && request.expectedTotal !== totalOf(request.lines))
    return { verdict: 'total_changed' };
  const covered = request.lines.filter((line) => isCovered(line, left));
  if (request.fulfilment === 'all_or_nothing' && covered.length < request.lines.length) return { verdict: 'short' };
  if (covered.length === 0) return { verdict: 'nothing_sellable' };
  return { verdict: 'sold', productIds: covered.map((line) => line.productId), total: totalOf(covered) };
}

/** A line above its product's limit counts as short: the limit may have come after the line. */
export function mayBeSold(line: WantedLine): boolean {
  return line.isOnSale && (line.maxPerOrder === null || line.quantity <= line.maxPerOrder);
}

function isCovered(line: WantedLine, left: ReadonlyMap<string, number>): boolean {
  return mayBeSold(line) && line.quantity <= (left.get(line.productId) ?? 0);
}

function totalOf(lines: readonly WantedLine[]): number {
  return lines.reduce((sum, line) => sum + line.quantity * line.unitPrice, 0);
}

function takeFrom(left: Map<string, number>, request: CheckoutRequest, productIds: readonly string[]): void {
  const sold = new Set(productIds);
  for (const line of request.lines)
    if (sold.has(line.productId)) left.set(line.productId, (left.get(line.productId) ?? 0) - line.quantity);
}
