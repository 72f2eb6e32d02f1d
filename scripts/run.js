// node scripts/run.js FILE [ARGUMENT…]: what the scripts of package.json start, whatever Node started npm.
import { pathToFileURL } from 'node:url';
import { run } from '../bin/runtime.js';

const [, , file, ...args] = process.argv;
await run(pathToFileURL(file), args);
