/** A throw-away certificate authority for the lab, by openssl. Keys live in the lab's directory and die with it. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Lab } from './lab.ts';

const execute = promisify(execFile);

/** Paths of PEM files. */
export interface Leaf {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface Authority {
  /** The authority's own certificate, PEM file. */
  readonly certFile: string;
  /**
   * A leaf for server and client authentication (TLS and mTLS), valid for a day.
   * @param name common name, and DNS name where it is one; `relay:r1` is not
   * @param addresses IP addresses that it is valid for
   */
  issue(name: string, addresses?: readonly string[]): Promise<Leaf>;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
const HOST_NAME = /^[a-z0-9.-]+$/i;

/** @throws Error with openssl's own words */
export async function createAuthority(lab: Pick<Lab, 'file'>): Promise<Authority> {
  const directory = lab.file('certificates');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = (name: string) => path.join(directory, name.replaceAll(':', '-'));
  const certFile = file('authority.pem');
  const authorityKeyFile = file('authority.key');
  await execute('openssl', [
    ...['req', '-x509', ...NEW_KEY, '-days', '1', '-subj', '/CN=lab authority'],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    ...['-keyout', authorityKeyFile, '-out', certFile],
  ]);
  return {
    certFile,
    async issue(name, addresses = []) {
      const leaf = { certFile: file(`${name}.pem`), keyFile: file(`${name}.key`) };
      const request = file(`${name}.csr`);
      const extensions = file(`${name}.ext`);
      const alternatives = [
        ...(HOST_NAME.test(name) ? [`DNS:${name}`] : []),
        ...addresses.map((address) => `IP:${address}`),
      ];
      const lines = [
        'basicConstraints=critical,CA:false',
        'keyUsage=critical,digitalSignature',
        'extendedKeyUsage=serverAuth,clientAuth',
        ...(alternatives.length > 0 ? [`subjectAltName=${alternatives.join(',')}`] : []),
      ];
      writeFileSync(extensions, `${lines.join('\n')}\n`);
      await execute('openssl', [
        ...['req', ...NEW_KEY, '-subj', `/CN=${name}`, '-keyout', leaf.keyFile, '-out', request],
      ]);
      // A random serial number needs no file, so that leaves can be issued at the same time.
      const serial = `0x${randomBytes(12).toString('hex')}`;
      await execute('openssl', [
        ...['x509', '-req', '-in', request, '-days', '1', '-extfile', extensions, '-set_serial', serial],
        ...['-CA', certFile, '-CAkey', authorityKeyFile, '-out', leaf.certFile],
      ]);
      return leaf;
    },
  };
}
