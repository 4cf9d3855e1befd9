import { MooringError } from '../protocol/errors.ts';

/** What an operator may be allowed to do, as an access token says it in the claim `scope`. */
export const SCOPES = {
  'mooring:read': 'look at pools, anchors, leases, relays and metrics',
  'mooring:pools': 'declare, grow, shrink and retire pools and anchors',
  'mooring:leases': 'revoke leases',
  'mooring:relays': 'hand anchors over, claim them, drain relays',
} as const;
export type Scope = keyof typeof SCOPES;

/** Who asks. */
export interface Operator {
  /** For the log: `token:…`, `certificate:…` or `local`. */
  readonly name: string;
  /** Null: may see and do everything. Else only what is this tenant's. */
  readonly tenant: string | null;
  readonly scopes: ReadonlySet<string>;
}

/** Who may open the control socket, or shows a certificate of the operators' authority. */
export function fullOperator(name: string): Operator {
  return { name, tenant: null, scopes: new Set(Object.keys(SCOPES)) };
}

/** Throws ERR_MOORING_SCOPE or ERR_MOORING_TENANT when the operator may not do that. */
export function requireRight(operator: Operator, scope: Scope, perTenant: boolean): void {
  if (!operator.scopes.has(scope)) {
    throw new MooringError(
      'ERR_MOORING_SCOPE',
      `the access token lacks the scope ${scope} (${SCOPES[scope]}); ask the issuer for it`,
      { data: { scope } },
    );
  }
  if (operator.tenant !== null && !perTenant) {
    throw new MooringError(
      'ERR_MOORING_TENANT',
      `this is the whole site's, and the access token is for tenant ${operator.tenant}; ask an operator of the site`,
    );
  }
}
