'use strict';
// Starts what the page's cases run against: the program itself (`tubox serve`) with its simulator as WeChat.
// TUBOX_BIN names another binary than target/debug/tubox.
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { picture } = require('./picture.js');

const BINARY = process.env.TUBOX_BIN || path.join(__dirname, '..', '..', 'target', 'debug', 'tubox');
const WITHIN_MS = 30000;
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

// The child sees the settings given here and nothing of ours: TUBOX_BIN would be an unknown setting.
function run(args, settings) {
  const child = spawn(BINARY, args, { env: Object.assign({ PATH: process.env.PATH }, settings), stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let text = '';
  let look = () => {};
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (part) => { text += part; look(); });
  const ended = new Promise((done) => child.on('close', (code) => { running.delete(child); done(code); look(); }));
  return {
    text: () => text,
    // resolves with the match as soon as the program has written it
    said: (pattern) => new Promise((done, fail) => {
      const t = setTimeout(() => fail(new Error(`tubox ${args[0]} did not say ${pattern}:\n${text}`)), WITHIN_MS);
      look = () => {
        const match = pattern.exec(text);
        if (match) { clearTimeout(t); done(match); }
        else if (!running.has(child)) { clearTimeout(t); fail(new Error(`tubox ${args[0]} has ended:\n${text}`)); }
      };
      look();
    }),
    async stop() {
      child.kill('SIGTERM');
      assert.equal(await ended, 0, `tubox ${args[0]} ended badly:\n${text}`);
    },
  };
}

const freePort = () => new Promise((done) => {
  const probe = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => done(port));
  });
});
const folder = () => fs.mkdtempSync(path.join(os.tmpdir(), 'tubox-browser-'));

async function until(happens, what) {
  const end = Date.now() + WITHIN_MS;
  while (!(await happens())) {
    if (Date.now() > end) throw new Error('waited too long until ' + what);
    await new Promise((done) => setTimeout(done, 20));
  }
}

// The manifests' rows, each an object by column. A row is always one line.
function manifest(pictures) {
  const days = fs.existsSync(pictures) ? fs.readdirSync(pictures).map((day) => path.join(pictures, day)) : [];
  return days.filter((day) => fs.existsSync(path.join(day, 'manifest.csv'))).flatMap((day) => {
    const lines = fs.readFileSync(path.join(day, 'manifest.csv'), 'utf8').split(/\r?\n/).filter(Boolean).map(cells);
    return lines.slice(1).map((line) => Object.assign({ day }, Object.fromEntries(line.map((cell, i) => [lines[0][i], cell]))));
  });
}
function cells(line) {
  return Array.from(line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g), (m) => (m[1] === undefined ? m[2] : m[1].replace(/""/g, '"')));
}

async function start() {
  const simulate = run(['simulate', '--listen', '127.0.0.1:0'], {});
  await simulate.said(/TUBOX_WECHAT_APP_SECRET=\w+\n/);
  const account = Object.fromEntries(Array.from(simulate.text().matchAll(/^(TUBOX_\w+)=(.*)$/gm), (m) => [m[1], m[2]]));
  delete account.TUBOX_WECHAT_JSSDK_URLS; // the page shall ask WeChat's own hosts, which the harness plays
  const wechat = account.TUBOX_WECHAT_API_URLS;
  const data = folder();
  const runtime = folder();
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const serve = run(['serve', '--config', '/dev/null'], Object.assign({
    TUBOX_LISTEN: `127.0.0.1:${port}`, TUBOX_PUBLIC_URL: url, TUBOX_DATA_DIR: data, TUBOX_LIMITS_RATE: '0',
    RUNTIME_DIRECTORY: runtime, TUBOX_LIMITS_MIN_FREE_BYTES: '1048576', TUBOX_DRAIN_RETRY_MIN: '50ms', TUBOX_DRAIN_RETRY_MAX: '200ms',
  }, account));
  await serve.said(/listening on/);
  await until(async () => (await fetch(`${url}/jssdk-config?url=${url}/`)).ok, 'the box has a ticket');

  async function order(name, body, headers) {
    const reply = await fetch(`${wechat}/sim/${name}`, { method: 'POST', body, headers });
    assert.ok(reply.ok, `${name}: ${reply.status}`);
    return reply.json();
  }
  const json = (name, body) => order(name, JSON.stringify(body), { 'Content-Type': 'application/json' });
  const upload = (body, id) => order('upload' + (id ? `?media_id=${id}` : ''), body, { 'Content-Type': 'image/png' });
  const always = (id, fault) => json('fault', { media_id: id, mode: 'always', fault });
  const fates = {
    saved: (id) => upload(picture(), id),
    waiting: async (id) => { await always(id, 'empty_body'); },
    failed: (id) => upload('this is a text', id),
  };

  return {
    url, // origin, without a slash at the end
    data, // the box's data folder
    runtime, // where the script for sticks reports
    pagePath: '/uploadImgDemo',
    // What WeChat answers to an upload. fate: 'saved', 'waiting' (WeChat answers with nothing), 'failed' (no picture), 'fake' (developer tools).
    async newMediaId(fate) {
      if (fate === 'fake') return '1237378768e7q8e7r8qwesafdasdfasdfaxss111';
      const { media_id: id } = await upload(picture());
      if (fate && fate !== 'saved') await fates[fate](id);
      return id;
    },
    async setFate(id, fate) {
      await fates[fate](id);
      if (fate !== 'waiting') await always(id, 'good');
    },
    // Submissions of which something is saved, oldest first: what the manifest says of them, the ids in the order of the receipt.
    async submissions() {
      const rows = manifest(path.join(data, 'pictures'));
      const found = Array.from(new Set(rows.map((row) => row.receipt)), async (receipt) => {
        const { submitted_at: at, pictures } = await (await fetch(`${url}/receipt/${receipt}`)).json();
        return Object.assign({}, rows.find((row) => row.receipt === receipt), { at, ids: pictures.map((p) => p.media_id) });
      });
      return (await Promise.all(found)).sort((a, b) => (a.at < b.at ? -1 : 1));
    },
    // What WeChat says to a page's wx.config: computed anew by the simulator.
    checkSignature: (config, address) => json('check-signature', Object.assign({}, config, { url: address })),
    async stop() {
      await serve.stop();
      const violations = await (await fetch(`${wechat}/sim/violations`)).json();
      await simulate.stop();
      fs.rmSync(data, { recursive: true });
      assert.deepEqual(violations, [], 'the box asked WeChat for something that WeChat does not know');
    },
  };
}

// The whole demo: the box with the simulator's own `wx` object.
async function startDemo() {
  const data = folder();
  const demo = run(['demo', '--listen', '127.0.0.1:0', '--data-dir', data, '--samples', '0'], {});
  const [, address] = await demo.said(/the page +(\S+)/);
  const pictures = path.join(data, 'pictures');
  return {
    address,
    rows: () => manifest(pictures),
    async stop() {
      await demo.stop();
      fs.rmSync(data, { recursive: true });
    },
  };
}

module.exports = { start, startDemo, folder };
