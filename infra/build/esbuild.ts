import { createRequire } from 'node:module';

/** The bundler that tsx brings along. Loaded when it is asked for: what is built needs none. */
export function esbuild(): typeof import('esbuild') {
  const require = createRequire(import.meta.url);
  return createRequire(require.resolve('tsx'))('esbuild');
}

/** In front of a bundle: a module of CommonJS in it asks for Node's own modules this way. */
export const REQUIRE_IN_BUNDLE =
  "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);";
