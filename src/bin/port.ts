import { createServer } from 'node:net';
import type { Config } from '../platform/config.ts';
import { localAddress } from './address.ts';

const probeTimeoutMs = 500;

/** Throws, naming what is in the way, when a port of `config` is taken: before anything is started for it. */
export async function checkPorts({ HOST: host, PORT, METRICS_PORT, ROLE }: Config): Promise<void> {
  if (ROLE !== 'worker') await checkPort(host, PORT, 'PORT');
  if (METRICS_PORT !== undefined) await checkPort(host, METRICS_PORT, 'METRICS_PORT');
}

async function checkPort(host: string, port: number, variable: string): Promise<void> {
  const error = await tryToListen(host, port);
  if (error === null) return;
  if (error.code !== 'EADDRINUSE') throw new Error(`Cannot listen on ${host}, port ${port}: ${error.message}`);
  const holder = (await isScaleCommerce(host, port)) ? 'another ScaleCommerce' : 'another program';
  throw new Error(
    `Port ${port} on ${host} is in use by ${holder}. Stop it, or choose another port, such as ${variable}=${port + 1}.`,
  );
}

function tryToListen(host: string, port: number): Promise<NodeJS.ErrnoException | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host, port }, () => server.close(() => resolve(null)));
  });
}

async function isScaleCommerce(host: string, port: number): Promise<boolean> {
  try {
    const answer = await fetch(`${localAddress(host, port)}/openapi.json`, {
      signal: AbortSignal.timeout(probeTimeoutMs),
    });
    return (await answer.text()).includes('"title":"ScaleCommerce"');
  } catch {
    return false;
  }
}
