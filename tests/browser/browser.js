'use strict';
// Opens the page in Chromium as a phone would, plays the network, and fails a case on any console error, page error or
// request to a host that the page has no business with.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, it } = require('node:test');
const { chromium } = require('playwright-core');
const { start } = require('./start.js');

const WX_STUB = fs.readFileSync(path.join(__dirname, 'wx-stub.js'), 'utf8');
const AGENTS = {
  android: 'Mozilla/5.0 (Linux; Android 13; Pixel 6) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/111.0.5563.116 Mobile Safari/537.36 MMWEBID/1 MicroMessenger/8.0.42.2460(0x28002A58) WeChat/arm64 Weixin NetType/WIFI Language/zh_CN',
  ios: 'Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.40(0x1800282a) NetType/WIFI Language/zh_CN',
  wxwork: 'Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 wxwork/4.1.0 MicroMessenger/7.0.1 Language/zh',
  devtools: 'Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.5 wechatdevtools/1.06 NetType/wifi',
  browser: 'Mozilla/5.0 (Linux; Android 13; Pixel 6) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36',
};
// Short waits, so that no case has to be slow. They are put into the page on its way to the browser.
const QUICK = { poll_first_ms: 60, poll_most_ms: 200, retry_first_ms: 80, retry_most_ms: 250, config_wait_ms: 5000, upload_watchdog_ms: 20000, preview_wait_ms: 400 };

const landscape = (n) => `<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><rect width="300" height="200" fill="hsl(${n * 77 % 360},35%,72%)"/><path d="M0 200 ${60 + n * 47 % 120} 70 220 150 300 110V200Z" fill="hsl(${(n * 77 + 140) % 360},40%,32%)"/></svg>`;

// One browser and one box for all cases of this process.
let browser;
let box;
before(async () => {
  box = await start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
});
after(async () => {
  if (browser) await browser.close();
  if (box) await box.stop();
});

// Collects what a page must not do.
function watch(page, faults, allow) {
  page.on('console', (m) => { if (/error|warning/.test(m.type()) && !(allow && allow.test(m.text()))) faults.push('console: ' + m.text()); });
  page.on('pageerror', (e) => faults.push('page: ' + e.message));
  page.on('dialog', (d) => { faults.push('dialog: ' + d.message()); d.dismiss(); });
}
let clients = 0;
// Each page comes from an address of its own, as behind a proxy, so that no case uses up another's rate.
function newContext(options) {
  clients += 1;
  return browser.newContext(Object.assign({
    userAgent: AGENTS.android, viewport: { width: 390, height: 844 }, hasTouch: true, locale: 'en',
    extraHTTPHeaders: { 'X-Forwarded-For': `198.18.${clients >> 8}.${clients & 255}` },
  }, options));
}

// options: agent, lang, query, path, plan (for wx-stub.js), settings (over those of the page), noTicket (embed {} in the page), embed
// (change the signature's object), unloadable (Android's local ids show nothing),
// fates (by picture number; see start.js), scripts (hosts that answer), init (runs before the page), allow (console errors that belong to the case)
async function openPage(options) {
  const agent = options.agent || 'android';
  const context = await newContext({
    userAgent: AGENTS[agent], viewport: options.viewport || { width: 390, height: 844 }, locale: options.lang || 'en',
    colorScheme: options.colorScheme || 'light', deviceScaleFactor: options.scale || 1,
  });
  const faults = [];
  const ids = [];
  const routes = {}; // path -> (route) => ... ; return false to let it pass
  const page = await context.newPage();
  watch(page, faults, options.allow);
  await page.exposeFunction('__newMediaId', async (n) => {
    ids[n] = await box.newMediaId((options.fates || {})[n]);
    return ids[n];
  });
  const plan = Object.assign({ platform: agent === 'ios' ? 'ios' : 'android' }, options.plan);
  await page.addInitScript((p) => { window.__wxPlan = p; if (p.platform === 'ios') window.__wxjs_is_wkwebview = true; }, plan);
  if (options.init) await page.addInitScript(options.init);
  await context.route('**/*', async (route) => {
    const url = new URL(route.request().url());
    if (/^res2?\.wx\.qq\.com$/.test(url.host) && url.pathname === '/open/js/jweixin-1.6.0.js') {
      if ((options.scripts || ['res.wx.qq.com', 'res2.wx.qq.com']).indexOf(url.host) < 0) return route.abort('failed');
      return route.fulfill({ contentType: 'text/javascript', body: WX_STUB });
    }
    // Android's local ids: only WeChat's own webview can show them
    if (url.protocol === 'weixin:' && plan.platform === 'android') {
      if (options.unloadable) return route.abort('failed');
      return route.fulfill({ contentType: 'image/svg+xml', body: landscape(Number(url.href.split('/').pop())) });
    }
    if (url.origin !== box.url) {
      faults.push('foreign request: ' + url.href);
      return route.abort();
    }
    const play = routes[url.pathname] || routes[url.pathname.replace(/^(\/receipt)\/.*/, '$1')];
    if (play && route.request().resourceType() !== 'document' && (await play(route)) !== false) return undefined;
    if (route.request().resourceType() !== 'document') return route.fallback();
    const response = await route.fetch();
    let body = await response.text();
    body = body.replace(/(id="page-settings">)(.*?)(<\/script>)/s, (m, a, json, z) => a + JSON.stringify(Object.assign(JSON.parse(json), QUICK, options.settings)) + z);
    if (options.noTicket) body = body.replace(/(id="jssdk-config">)(.*?)(<\/script>)/s, '$1{}$3');
    if (options.embed) body = body.replace(/(id="jssdk-config">)(.*?)(<\/script>)/s, (m, a, json, z) => a + JSON.stringify(options.embed(JSON.parse(json))) + z);
    return route.fulfill({ response, body });
  });
  const address = box.url + (options.path || box.pagePath) + (options.query || '');
  const handles = {
    page, context, box, ids, routes, faults, address,
    load: () => page.goto(address),
    tap: (id) => page.click('#' + id),
    // waits until the pictures' states are exactly these, in the order of choosing
    async states(...wanted) {
      await page.waitForFunction((w) => {
        const all = Array.from(document.querySelectorAll('[data-picture]')).sort((a, b) => a.dataset.picture - b.dataset.picture);
        return all.map((x) => x.dataset.state).join(' ') === w;
      }, wanted.join(' '), { timeout: 15000 }).catch(async () => {
        const is = await page.$$eval('[data-picture]', (all) => all.sort((a, b) => a.dataset.picture - b.dataset.picture).map((x) => x.dataset.state).join(' '));
        assert.equal(is, wanted.join(' '), await page.innerText('#notices'));
      });
    },
    notice: (word) => page.waitForSelector(`[data-notice=${word}]`, { timeout: 15000 }).then((x) => x.innerText()),
    noNotice: (word) => page.waitForSelector(`[data-notice=${word}]`, { state: 'detached', timeout: 15000 }),
    wx: () => page.evaluate(() => window.__wx),
    primary: () => page.$$eval('button.primary', (all) => all.map((x) => x.id).join(' ')),
    async choose() {
      const before = await page.$$eval('[data-picture]', (all) => all.length);
      await page.click('#chooseImage');
      await page.waitForFunction((n) => document.querySelectorAll('[data-picture]').length > n, before, { timeout: 15000 });
    },
  };
  if (!options.closed) await handles.load();
  return handles;
}

function pageCase(name, options, run) {
  it(name, { timeout: 120000 }, async () => {
    const h = await openPage(options);
    try {
      await run(h);
      const calls = await h.wx();
      if (calls) assert.deepEqual([calls.overlap, calls.previewOverlap], [0, 0], 'WeChat was asked two things at once');
      const config = calls && calls.configs.pop();
      if (config) assert.equal((await box.checkSignature(config, h.page.url().split('#')[0])).errMsg, 'config:ok');
      assert.deepEqual(h.faults, []);
    } finally {
      await h.context.close();
    }
  });
}

module.exports = { pageCase, newContext, watch, box: () => box };
