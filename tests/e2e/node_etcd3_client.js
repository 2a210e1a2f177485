// Uses a cluster through npm's etcd3; run by the tests:
// MODULE HOST:PORT,HOST:PORT... [USER PASSWORD AUTHORITY CERTIFICATE KEY]
const fs = require('fs');
const [, , modulePath, hosts, username, password, ...files] = process.argv;
const { Etcd3 } = require(modulePath);

function check(what, condition) {
  if (!condition) throw new Error(`node etcd3: ${what}`);
  console.log('ok', what);
}

async function keyValues(client) {
  await client.put('js/a').value('1');
  check('get', (await client.get('js/a').string()) === '1');
  await client.put('js/b').value('2');
  const all = await client.getAll().prefix('js/').strings();
  check('prefix', JSON.stringify(all) === JSON.stringify({ 'js/a': '1', 'js/b': '2' }));
  const txn = await client
    .if('js/a', 'Value', '==', '1')
    .then(client.put('js/a').value('3'))
    .else(client.put('js/a').value('4'))
    .commit();
  check('transaction', txn.succeeded && (await client.get('js/a').string()) === '3');
  const deleted = await client.delete().prefix('js/');
  check('delete', String(deleted.deleted) === '2');
  check('a missing key', (await client.get('js/a').string()) === null);
}

async function watches(client) {
  const watcher = await client.watch().prefix('jw/').create();
  const seen = [];
  const done = new Promise((resolve) => {
    const note = (kind) => (kv) => {
      seen.push(`${kind} ${kv.key.toString()}`);
      if (seen.length === 2) resolve();
    };
    watcher.on('put', note('put'));
    watcher.on('delete', note('delete'));
  });
  await client.put('jw/a').value('1');
  await client.delete().key('jw/a');
  await done;
  check('watch', seen.join() === 'put jw/a,delete jw/a');
  await watcher.cancel();
}

async function leases(client) {
  const lease = client.lease(600);
  await lease.put('jl/a').value('1');
  check('lease', (await client.get('jl/a').string()) === '1');
  await lease.keepaliveOnce();
  await lease.revoke();
  check('revoke', (await client.get('jl/a').string()) === null);
}

async function locks(client) {
  const order = [];
  const hold = async (name) => {
    const lock = client.lock('jk').ttl(60);
    for (;;) {
      try {
        await lock.acquire();
        break;
      } catch (problem) {
        if (problem.constructor.name !== 'EtcdLockFailedError') throw problem;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    order.push(`${name} in`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    order.push(`${name} out`);
    await lock.release();
  };
  await Promise.all([hold('a'), hold('b')]);
  check('lock', order[0].endsWith('in') && order[1] === order[0].replace('in', 'out') && order.length === 4);
}

async function refused(what, words, call) {
  let said = 'nothing';
  try {
    await call();
  } catch (problem) {
    said = problem.message;
  }
  check(`${what}: ${said}`, said.includes(words));
}

function connect(secret) {
  const all = hosts.split(',');
  if (!username) return new Etcd3({ hosts: all.map((host) => `http://${host}`) });
  const [rootCertificate, certChain, privateKey] = files.map((file) => fs.readFileSync(file));
  return new Etcd3({
    hosts: all.map((host) => `https://${host}`),
    credentials: { rootCertificate, certChain, privateKey },
    auth: { username, password: secret },
  });
}

async function denials(client) {
  await refused('permission', 'permission denied', () => client.get('other'));
  await refused('users', 'permission denied', () => client.getUsers());
  const liar = connect('wrong');
  await refused('password', 'invalid user ID or password', () => liar.get('js/a'));
  liar.close();
}

async function main() {
  const client = connect(password);
  if (username) await denials(client);
  await keyValues(client);
  await watches(client);
  await leases(client);
  await locks(client);
  client.close();
}

main().then(
  () => process.exit(0),
  (problem) => {
    console.error(problem);
    process.exit(1);
  },
);
