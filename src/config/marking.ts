import Type, { type Static, type TLiteral, type TUnion } from 'typebox';

/** One of the two points where a tunnel's end sets DSCP. */
function point(mode: 'copy' | 'keep', description: string) {
  return Type.Object(
    {
      mode: Type.Union([Type.Literal('copy'), Type.Literal('keep'), Type.Literal('rewrite')], {
        default: mode,
        description,
      }),
      value: Type.Integer({
        minimum: 0,
        maximum: 63,
        default: 0,
        description: 'the code point that `rewrite`, and into the tunnel `keep`, gives',
      }),
    },
    { additionalProperties: false, default: {} },
  );
}

/** DSCP at one end of the tunnel: a relay has its two points, a device its own two. */
export const DscpSettings = Type.Object(
  {
    intoTunnel: point(
      'copy',
      'copy: the outer header shows the inner code point; keep: it shows `value`; rewrite: the inner one becomes `value` too',
    ),
    outOfTunnel: point(
      'keep',
      'keep: the inner code point leaves as its sender set it; copy: as the access network last had it; rewrite: as `value`',
    ),
  },
  { additionalProperties: false, default: {} },
);

/** ECN of the outer header on the way into the tunnel; on the way out the table of RFC 6040 §4.2 holds, always. */
export function ecnSettings(
  fallback: 'compatible' | 'normal',
  description: string,
): TUnion<[TLiteral<'compatible'>, TLiteral<'normal'>]> {
  return Type.Union([Type.Literal('compatible'), Type.Literal('normal')], { default: fallback, description });
}

/** The rules of both points in the form that `tunnel/dscp-ecn.ts` takes. */
export function markingOf({
  dscp,
  ecn,
}: {
  readonly dscp: Static<typeof DscpSettings>;
  readonly ecn: 'compatible' | 'normal';
}) {
  return { ingress: dscp.intoTunnel, egress: dscp.outOfTunnel, ecn };
}
