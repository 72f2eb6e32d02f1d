import { GatewayRefusedRequest, type PaymentGateway } from '../../src/modules/payments/payments.service.ts';
import { newId } from '../../src/shared/ids.ts';

/** A gateway that approves everything and remembers nothing: what is left of an order's cost without a journal. */
export function unjournaledGateway(): PaymentGateway {
  const nothingOnRecord = async (): Promise<never> => {
    throw new GatewayRefusedRequest('The gateway without a journal has nothing on record');
  };
  return {
    authorize: async () => ({ outcome: 'approved', reference: newId() }),
    capture: async () => ({ outcome: 'captured', reference: newId() }),
    void: nothingOnRecord,
    refund: nothingOnRecord,
    lookup: async () => null,
    listAuthorizations: async () => [],
    close: async () => undefined,
  };
}
