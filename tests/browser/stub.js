'use strict';
// A small stand-in for the box: serves the page from assets/page and keeps the outside contract in memory, so that the
// page can be tried without the program. It knows no faults of its own: tests play those by intercepting requests.
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const ASSETS = path.join(__dirname, '..', '..', 'assets', 'page');
const TYPES = { css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8' };
const POLICY = [
  "default-src 'none'", "script-src 'self' https://res.wx.qq.com https://res2.wx.qq.com", "style-src 'self'", "connect-src 'self'",
  "img-src 'self' data: blob: weixin: wxlocalresource:", 'frame-src weixin: weixinping: weixinpreinject:', "base-uri 'none'", "form-action 'self'",
].join('; ');

const hash = (text) => crypto.createHash('sha256').update(text).digest('hex');
const asJson = (value) => JSON.stringify(value).replace(/</g, '\\u003c');

function readAssets() {
  const assets = {};
  const urls = {};
  for (const [slot, name] of [['style_url', 'style.css'], ['words_url', 'words.js'], ['core_url', 'core.js'], ['script_url', 'page.js']]) {
    const body = fs.readFileSync(path.join(ASSETS, name));
    const kind = name.split('.').pop();
    urls[slot] = `/assets/${name.replace(/\.\w+$/, '')}.${hash(body).slice(0, 16)}.${kind}`;
    assets[urls[slot]] = { body, type: TYPES[kind] };
  }
  return { assets, urls };
}

function createBox() {
  const { assets, urls } = readAssets();
  const template = fs.readFileSync(path.join(ASSETS, 'page.html'), 'utf8');
  const fates = new Map(); // media id -> { state, reason }
  const receipts = new Map(); // code -> { ids, submittedAt }
  const submissions = []; // every accepted request, as it came
  const passes = new Set();
  let origin = '';

  const sign = (url) => ({ appId: 'wxdemo0000000000', timestamp: 1700000000, nonceStr: 'Wm3WZYTPz0wzccnW', signature: hash(url).slice(0, 40), url });
  const refusal = (msg, code) => ({ rc: 1, msg, code });

  function page(request, response, receipt) {
    const url = new URL(request.url, origin);
    const lang = url.searchParams.get('lang') || (/^zh/.test(request.headers['accept-language'] || 'zh') ? 'zh-CN' : 'en');
    const pass = crypto.randomBytes(12).toString('hex');
    passes.add(pass);
    const slots = Object.assign({
      lang,
      jssdk_config: asJson(sign(origin + request.url)),
      settings: asJson({
        lang,
        jssdk_urls: ['https://res.wx.qq.com/open/js/jweixin-1.6.0.js', 'https://res2.wx.qq.com/open/js/jweixin-1.6.0.js'],
        ids_per_submission: 100, text_length_max: { team: 64, contributor: 64, note: 500 }, demo: false, receipt,
      }),
    }, urls);
    let html = template;
    for (const [slot, value] of Object.entries(slots)) html = html.replace(`{{${slot}}}`, () => value);
    response.writeHead(200, {
      'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store', 'Content-Security-Policy': POLICY,
      'Set-Cookie': `tubox_pass=${pass}; Path=/; HttpOnly; SameSite=Lax`,
    });
    response.end(html);
  }

  function reply(response, status, body) {
    response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Cache-Control': 'no-store' });
    response.end(JSON.stringify(body));
  }

  function submit(request, response, text) {
    const pass = /tubox_pass=(\w+)/.exec(request.headers.cookie || '');
    if (!pass || !passes.has(pass[1])) return reply(response, 200, refusal('请从页面提交', 'no-pass'));
    const form = Object.fromEntries(new URLSearchParams(text));
    const ids = JSON.parse(form.data || '{}').imgIds || [];
    if (!ids.length) return reply(response, 200, refusal('图片不能为空', 'empty'));
    if (ids.length > 100) return reply(response, 200, refusal('too many ids', 'too-many-ids'));
    const bad = ids.find((id) => !/^[A-Za-z0-9_-]{1,256}$/.test(id));
    if (bad) return reply(response, 200, refusal('not a media id: ' + bad, 'bad-media-id'));
    const code = crypto.randomBytes(10).toString('hex');
    receipts.set(code, { ids, submittedAt: new Date().toISOString() });
    submissions.push(Object.assign(form, { ids }));
    return reply(response, 200, { rc: 0, msg: '上传成功', receipt: code });
  }

  function receiptOf(code) {
    const { ids, submittedAt } = receipts.get(code);
    const pictures = ids.map((id) => {
      const fate = fates.get(id) || { state: 'saved' };
      return Object.assign({ media_id: id }, fate, fate.state === 'saved' ? { sha256: hash(id) } : {});
    });
    return { rc: 0, receipt: code, submitted_at: submittedAt, settled: pictures.every((p) => p.state !== 'waiting'), pictures };
  }

  function serve(request, response, text) {
    const url = new URL(request.url, origin);
    const asset = assets[url.pathname];
    if (asset) {
      response.writeHead(200, { 'Content-Type': asset.type, 'Cache-Control': 'public, max-age=31536000, immutable', 'X-Content-Type-Options': 'nosniff' });
      return response.end(asset.body);
    }
    if (url.pathname === '/uploadImgDemo') return page(request, response, null);
    if (url.pathname === '/jssdk-config') {
      const asked = url.searchParams.get('url') || '';
      if (!asked.startsWith(origin + '/')) return reply(response, 403, refusal('not our address', 'foreign-url'));
      return reply(response, 200, Object.assign({ rc: 0 }, sign(asked)));
    }
    if (url.pathname === '/uploadImgData' && request.method === 'POST') return submit(request, response, text);
    if (url.pathname.startsWith('/receipt/')) {
      const code = decodeURIComponent(url.pathname.slice(9));
      if (/text\/html/.test(request.headers.accept || '')) return page(request, response, code);
      return receipts.has(code) ? reply(response, 200, receiptOf(code)) : reply(response, 404, refusal('no such receipt', 'no-receipt'));
    }
    if (url.pathname === '/qr.svg') {
      response.writeHead(200, { 'Content-Type': 'image/svg+xml' });
      return response.end('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M1 1h2v2H1zM5 1h2v2H5zM1 5h2v2H1zM4 4h1v1H4zM6 6h1v1H6z"/></svg>');
    }
    return reply(response, 404, refusal('not found', 'not-found'));
  }

  const server = http.createServer((request, response) => {
    let text = '';
    request.on('data', (part) => { text += part; });
    request.on('end', () => serve(request, response, text));
  });

  server.keepAliveTimeout = 0; // a slow machine must not meet a connection that is just being closed

  return {
    submissions,
    setFate: (id, state, reason) => fates.set(id, { state, reason }),
    listen: () => new Promise((done) => {
      server.listen(0, '127.0.0.1', () => {
        origin = `http://127.0.0.1:${server.address().port}`;
        done(origin);
      });
    }),
    close: () => new Promise((done) => { server.closeAllConnections(); server.close(done); }),
  };
}

module.exports = { createBox };
