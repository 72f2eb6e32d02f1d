import { describe, expect, it } from 'vitest';
import { gatewayFaults, readFaultRates } from './gateway-faults.ts';

describe('a list of faults with their rates', () => {
  it('is read by name, blanks or not', () => {
    expect(readFaultRates('slow=0.05, lost_answer = 1,reset=0,error=.5,').rates).toEqual(
      new Map([
        ['slow', 0.05],
        ['lost_answer', 1],
        ['reset', 0],
        ['error', 0.5],
      ]),
    );
    expect(readFaultRates('')).toEqual({ rates: new Map(), faults: [] });
  });

  it('takes every fault there is', () => {
    const { rates, faults } = readFaultRates(gatewayFaults.map((fault) => `${fault}=0.1`).join(','));
    expect([...rates.keys()]).toEqual(gatewayFaults);
    expect(faults).toEqual([]);
  });

  it.each(['slow=1.5', 'slow=-0.1', 'slow', 'slow=', 'slow=often', 'slow=1e-3', 'slow=0.1=0.2', 'slow=NaN', 'slow=.'])(
    'does not take %s',
    (list) => {
      const { rates, faults } = readFaultRates(list);
      expect(rates.size).toBe(0);
      expect(faults).toEqual([expect.stringContaining('must be a probability from 0 to 1')]);
    },
  );

  it('says what is wrong with each of them', () => {
    expect(readFaultRates('lost=0.1,slow=0.1,slow=0.2,reset=2').faults).toEqual([
      `there is no fault "lost", only ${gatewayFaults.join(', ')}`,
      'slow is named twice',
      'reset=2 must be a probability from 0 to 1, such as 0.05',
    ]);
  });
});
