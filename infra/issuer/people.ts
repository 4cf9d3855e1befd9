import type { IncomingMessage, ServerResponse } from 'node:http';
import type Provider from 'oidc-provider';

/**
 * Lets people sign in at the development issuer: whoever is asked to names an account, and gets everything that the
 * client asked for. There are no passwords: never a pattern for an issuer that others can reach.
 */
export function servePeople(
  provider: Provider,
  accounts: ReadonlySet<string>,
): (request: IncomingMessage, response: ServerResponse) => Promise<boolean> {
  return async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://issuer');
    if (!url.pathname.startsWith('/interaction/')) return false;
    const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
    if (prompt.name === 'login') {
      const account = url.searchParams.get('account');
      if (account === null || !accounts.has(account)) {
        askForAccount(response, url.pathname, accounts);
        return true;
      }
      await provider.interactionFinished(request, response, { login: { accountId: account } });
      return true;
    }
    const clientId = String(params.client_id);
    const grant =
      (grantId === undefined ? undefined : await provider.Grant.find(grantId)) ??
      new provider.Grant({ accountId: session?.accountId ?? '', clientId });
    grant.addOIDCScope('openid offline_access lease');
    for (const resource of [params.resource ?? []].flat()) grant.addResourceScope(String(resource), 'lease');
    await provider.interactionFinished(
      request,
      response,
      { consent: { grantId: await grant.save() } },
      { mergeWithLastSubmission: true },
    );
    return true;
  };
}

function askForAccount(response: ServerResponse, path: string, accounts: ReadonlySet<string>): void {
  const choices = [...accounts].map((account) => {
    const name = encodeURIComponent(account);
    return `<li><a href="${path}?account=${name}">${name}</a></li>`;
  });
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><title>Sign in</title><h1>Who are you?</h1><ul>${choices.join('')}</ul>`);
}
