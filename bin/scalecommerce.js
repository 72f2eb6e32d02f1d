#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { run } from './runtime.js';

const args = process.argv.slice(2);
/**
 * What waits for a batch lives through many small collections of garbage. Room for all that comes in a second saves
 * most of them; no other command needs it.
 */
const roomForRequests = JSON.parse(readFileSync(new URL('node-options-of-start.json', import.meta.url), 'utf8'));

await run(new URL('../src/bin/scalecommerce.ts', import.meta.url), args, args[0] === 'start' ? roomForRequests : []);
