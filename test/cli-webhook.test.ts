import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Ended, runCommand } from './support/command.ts';
import { eventually } from './support/eventually.ts';
import { addProduct, openTestShop, Shopper, type TestShop } from './support/shop.ts';
import { openReceiver, type WebhookReceiver, withStatus } from './support/webhook-receiver.ts';

let shop: TestShop;
let receiver: WebhookReceiver;

beforeAll(async () => {
  shop = await openTestShop({ WEBHOOK_ALLOW_PRIVATE: 'true' });
  receiver = await openReceiver();
});
afterAll(async () => {
  await shop.close();
  await receiver.close();
});

const webhook = (...args: readonly string[]): Promise<Ended> =>
  runCommand(['webhook', ...args], { DATABASE_URL: shop.url, WEBHOOK_ALLOW_PRIVATE: 'true' });

async function addEndpoint(): Promise<{ id: string; secret: string }> {
  const { stdout } = await webhook('add', receiver.url, '--description', 'the ERP');
  const [, id = '', secret = ''] = /^id {6}(\S{36})\nsecret {2}(whsec_\S{44})\n$/.exec(stdout) ?? [];
  return { id, secret };
}

test('an endpoint is added with a secret that is told once, tried out, and removed', async () => {
  const { id, secret } = await addEndpoint();
  expect(secret).toMatch(/^whsec_/);
  const listed = await webhook('list');
  expect(listed.stdout).toMatch(new RegExp(`^ID +STATUS +SINCE +URL +DESCRIPTION\n${id} +active .*/hooks +the ERP\n$`));
  expect(listed.stdout).not.toContain(secret);

  expect(await webhook('test', id)).toMatchObject({
    status: 0,
    stdout: `Endpoint ${id} has taken the test message: status 204.\n`,
  });
  const received = receiver.received.at(-1);
  if (!received) throw new Error('Nothing arrived');
  const message = new Webhook(secret).verify(received.body, received.headers as Record<string, string>);
  expect(message).toMatchObject({ type: 'webhook.test', data: { endpoint_id: id } });

  receiver.answer(withStatus(500));
  expect(await webhook('test', id)).toMatchObject({
    status: 1,
    stderr: `scalecommerce: Endpoint ${id} has not taken the test message: status 500.\n`,
  });
  receiver.answer(withStatus(204));

  expect((await webhook('remove', id)).status).toBe(0);
  expect((await webhook('list')).stdout).toBe('There are no endpoints.\n');
  for (const command of ['remove', 'test'])
    expect(await webhook(command, id)).toMatchObject({
      status: 1,
      stderr: `scalecommerce: There is no endpoint "${id}".\n`,
    });
});

test('a URL that an endpoint has already is added again, with a word about the other', async () => {
  const first = await webhook('add', receiver.url);
  expect(first.stderr).toBe('The secret is not shown again.\n');
  const [, id = ''] = /^id +(\S{36})$/m.exec(first.stdout) ?? [];
  const second = await webhook('add', receiver.url.replace('http://', 'HTTP://'));
  const [, otherId = ''] = /^id +(\S{36})$/m.exec(second.stdout) ?? [];
  expect(second).toMatchObject({
    status: 0,
    stderr: `The secret is not shown again.\nAnother endpoint has this URL: ${id}. Each has its own secret and gets every event.\n`,
  });
  await webhook('remove', id);
  await webhook('remove', otherId);
});

test('a message that was given up is listed, and sent again when that is wanted', async () => {
  const { id } = await addEndpoint();
  receiver.answer(withStatus(503));
  const shopper = new Shopper(shop.app);
  await shopper.put(await addProduct(shop), 1);
  await shopper.checkout('v1');
  expect((await webhook('dead')).stdout).toBe('There are no dead letters.\n');
  // In place of three days of trying.
  await eventually(async () => {
    const tried = await shop.query(
      `UPDATE pgboss.job SET retry_count = retry_limit - 1, start_after = now() WHERE state = 'retry' RETURNING id`,
    );
    return tried.length === 1;
  });
  const { stdout } = await eventually(async () => {
    const ended = await webhook('dead');
    return ended.stdout.startsWith('ID') ? ended : null;
  });
  const letter = /^(\S{36}) +(\S{36}) +order\.completed +\S{36} +(\S{36}) .* 31 +status 503$/m.exec(stdout) ?? [];
  expect(letter[3]).toBe(id);
  receiver.answer(withStatus(204));
  receiver.received.length = 0;
  expect(await webhook('replay', String(letter[1]))).toMatchObject({
    status: 0,
    stdout: '1 dead letter is sent again by the workers.\n',
  });
  await eventually(() => receiver.received.length === 1);
  expect(receiver.received[0]?.headers['webhook-id']).toBe(letter[2]);
  expect(await webhook('replay', String(letter[1]))).toMatchObject({
    status: 1,
    stderr: `scalecommerce: There is no dead letter "${letter[1]}".\n`,
  });
  expect((await webhook('replay', '--all')).stdout).toBe('0 dead letters are sent again by the workers.\n');
});

test.each([
  [['add', 'not-a-url'], 'must be an absolute URL'],
  [['add', 'ftp://shop.example'], 'must begin with https:// or http://'],
  [['replay'], 'either an ID or --all is needed'],
  [['replay', 'an-id', '--all'], 'either an ID or --all is needed'],
  [['test'], "missing required argument 'ID'"],
])('what cannot be meant is refused: webhook %o', async (args, reason) => {
  const ended = await webhook(...args);
  expect(ended.status).toBe(2);
  expect(ended.stderr).toContain(reason);
});

test.each(['https://127.0.0.1/', 'https://localhost/hook', 'https://LocalHost./hook', 'https://erp.localhost/hook'])(
  'private addresses are refused unless they are allowed: %s',
  async (url) => {
    const ended = await runCommand(['webhook', 'add', url], { DATABASE_URL: shop.url });
    expect(ended).toMatchObject({
      status: 2,
      stderr: 'scalecommerce: The URL must not lead to a private address. See WEBHOOK_ALLOW_PRIVATE.\n',
    });
  },
);

test('helps with its commands', async () => {
  expect((await webhook('--help')).stdout).toMatch(
    /^ {2}add .*^ {2}list .*^ {2}remove .*^ {2}test .*^ {2}dead .*^ {2}replay /ms,
  );
});
