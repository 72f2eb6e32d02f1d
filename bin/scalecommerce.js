#!/usr/bin/env node
import { run } from './runtime.js';

await run(new URL('../src/bin/scalecommerce.ts', import.meta.url), process.argv.slice(2));
