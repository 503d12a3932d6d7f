# Node.js: the event loop, worker threads, child processes, fs.watch, streams, crypto, shared memory.
mkdir /tmp/node; cd /tmp/node
cat >main.js <<'JS'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { spawn, spawnSync, exec, fork } = require('child_process');
const fs = require('fs'), os = require('os'), path = require('path'), zlib = require('zlib'), crypto = require('crypto'), { pipeline } = require('stream/promises'), { once } = require('events');
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
async function main() {
  const order = [];
  setImmediate(() => order.push('immediate')); process.nextTick(() => order.push('tick')); Promise.resolve().then(() => order.push('promise'));
  await sleep(300); console.log(order.join());
  const times = []; await Promise.all([300, 10, 150].map((n) => sleep(n).then(() => times.push(n)))); console.log(times.join());
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const workers = [0, 1, 2, 3].map((n) => new Worker(__filename, { workerData: { n, shared } }));
  console.log((await Promise.all(workers.map((w) => once(w, 'message')))).map((m) => m[0]).sort().join(), shared[0]);
  await Promise.all(workers.map((w) => w.terminate()));
  const cat = spawn('cat'); cat.stdin.end('through cat'); let text = ''; for await (const c of cat.stdout) text += c; console.log(text);
  console.log(spawnSync('sh', ['-c', 'echo out; echo err >&2; exit 5']).status, spawnSync('/no/such').error.code, spawnSync('sleep', ['5'], { timeout: 50 }).signal);
  console.log(await new Promise((r) => exec('kill -9 $$', (e) => r(e.signal))));
  const child = fork(__filename, ['child']); child.send({ ask: 1 }); console.log((await once(child, 'message'))[0]); child.disconnect(); console.log((await once(child, 'exit'))[0]);
  fs.mkdirSync('w'); const events = []; const watcher = fs.watch('w', (kind, name) => events.push(kind + ' ' + name)); await sleep(20); fs.writeFileSync('w/a', '1'); await sleep(20); fs.renameSync('w/a', 'w/b'); await sleep(20); fs.unlinkSync('w/b'); await sleep(50); watcher.close(); console.log(events.join('; '));
  fs.writeFileSync('big', Buffer.alloc(1 << 20, 'abc')); await pipeline(fs.createReadStream('big'), zlib.createGzip(), zlib.createGunzip(), fs.createWriteStream('copy')); console.log(fs.statSync('copy').size, fs.readFileSync('copy').equals(fs.readFileSync('big')));
  console.log(crypto.createHash('sha256').update('x').digest('hex').slice(0, 10), crypto.randomBytes(8).length, await new Promise((r) => crypto.pbkdf2('a', 'b', 1000, 8, 'sha1', (e, k) => r(k.toString('hex')))));
  console.log(fs.readdirSync('/usr/lib/git-core').length, fs.existsSync('/no'), await fs.promises.access('/no').catch((e) => e.code), fs.realpathSync('/bin/sh'), os.cpus().length > 0, os.totalmem() > 0, os.platform());
  await fs.promises.cp('/usr/include/linux', 'cp', { recursive: true }); console.log(fs.readdirSync('cp').length); fs.rmSync('cp', { recursive: true });
  const alive = setInterval(() => {}, 1000); const got = once(process, 'SIGUSR2'); process.kill(process.pid, 'SIGUSR2'); console.log((await got)[0]); clearInterval(alive);
  let garbage = []; for (let i = 0; i < 200; i++) garbage = [new Array(10000).fill(i), garbage.length]; console.log(garbage[0][5]);
  const server = require('net').createServer((s) => s.pipe(s)).listen('/tmp/node/sock'); await once(server, 'listening'); const c = require('net').connect('/tmp/node/sock'); c.end('echoed'); let e = ''; for await (const d of c) e += d; console.log(e); server.close();
  console.log(await WebAssembly.instantiate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])).then((m) => m.instance instanceof WebAssembly.Instance));
  process.on('exit', (code) => console.log('exit', code)); process.exitCode = 6;
}
if (!isMainThread) { for (let i = 0; i < 1000; i++) Atomics.add(workerData.shared, 0, 1); parentPort.postMessage(workerData.n); setInterval(() => {}, 1000); }
else if (process.argv[2] === 'child') process.on('message', (m) => process.send({ answer: m.ask + 1 }));
else main();
JS
node main.js; echo "status $?"; echo 'console.log("from stdin"); process.stdin.resume()' | node -; node -e 'throw new Error("x")' 2>&1 | grep -c '^Error: x'; node --max-old-space-size=64 -e 'const a = []; for (let i = 0; i < 1e6; i++) a.push({ i }); console.log(a.length)'; printf 'a\nb\n' | node -e 'require("readline").createInterface({ input: process.stdin }).on("line", (l) => console.log(l + l))'
