import { Type } from 'typebox';

export const DropBody = Type.Object({ units: Type.Integer({ minimum: 1, maximum: 1_000 }) });

export const RaceBody = Type.Object({
  buyers: Type.Integer({ minimum: 1, maximum: 2_000 }),
  declined_percent: Type.Integer({ minimum: 0, maximum: 90 }),
});

export const DropParams = Type.Object({ id: Type.String() });
