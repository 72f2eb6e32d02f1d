# What can be done here; `just` alone lists it. Every recipe is one command that also works without just.

_list:
    @just --list --unsorted

# Install the dependencies, Node 26 and PostgreSQL 18 included
install:
    npm ci

# Start the shop on an embedded PostgreSQL (or on DATABASE_URL)
start:
    npm start

# Run the tests; with arguments only those files: just test test/checkout.test.ts
test *files:
    npm test -- {{ files }}

# Check format, lint, types, imports, dead code, migrations and generated files; or only the steps named
check *steps:
    npm run check -- {{ steps }}

# Put right what can be put right without a decision: format and simple lint
fix:
    node scripts/run.js node_modules/@biomejs/biome/bin/biome check --write .

# Write docs/openapi.json and docs/configuration.md anew
generate:
    npm run generate

# Bring the database to the newest schema
migrate:
    node bin/scalecommerce.js migrate

# Fill an empty catalogue with demonstration products
seed products="10000":
    node bin/scalecommerce.js seed --products {{ products }}

# Take over products from an NDJSON or CSV file
import file:
    node bin/scalecommerce.js import {{ file }}

# Check the invariants of the live database
audit:
    node bin/scalecommerce.js audit

# Everything that CI runs
ci:
    bash .ci/run

# Build the image
docker-build:
    docker build --tag scalecommerce .

# Start PostgreSQL, the API and a worker in containers
docker-up:
    docker compose up --build

# Stop the containers; what they stored stays
docker-down:
    docker compose down
