'use strict';
// A person tries the demo in a desktop browser: the simulator's own `wx`, a real file dialog, real files, and what lands on disk.
const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { newContext, watch } = require('./browser.js');
const { startDemo, folder } = require('./start.js');
const { picture } = require('./picture.js');

describe('the demo', () => {
  let demo;
  let files;
  before(async () => {
    demo = await startDemo();
    files = folder();
  });
  after(async () => {
    await demo.stop();
    fs.rmSync(files, { recursive: true });
  });

  // A JPEG as a browser writes it, beside PNGs of three sizes.
  async function makeFiles(page) {
    const jpeg = await page.evaluate(() => {
      const canvas = document.createElement('canvas');
      canvas.getContext('2d').fillRect(20, 20, 200, 60);
      return canvas.toDataURL('image/jpeg').split(',')[1];
    });
    const contents = [Buffer.from(jpeg, 'base64'), picture(1), picture(64), picture(700)];
    return contents.map((bytes, i) => {
      const name = path.join(files, `photo ${i}.${i ? 'png' : 'jpg'}`);
      fs.writeFileSync(name, bytes);
      return name;
    });
  }

  it('files chosen in the dialog arrive byte for byte, and sha256sum agrees', { timeout: 60000 }, async () => {
    const context = await newContext({ userAgent: undefined, viewport: { width: 1280, height: 800 }, extraHTTPHeaders: {} });
    const page = await context.newPage();
    const faults = [];
    watch(page, faults);
    page.on('request', (r) => { if (!/^(http:\/\/127\.0\.0\.1:|data:|blob:)/.test(r.url())) faults.push('foreign request: ' + r.url()); });
    await page.goto(demo.address);
    const names = await makeFiles(page);
    const allAre = (state, n) => page.waitForFunction(([s, k]) => document.querySelectorAll(`[data-picture][data-state=${s}]`).length === k, [state, n]);

    await page.waitForSelector('[data-notice=demo]');
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.click('#chooseImage')]);
    await chooser.setFiles(names);
    await allAre('chosen', 4);
    await page.waitForFunction(() => Array.from(document.querySelectorAll('[data-picture] img')).every((img) => img.naturalWidth > 0));
    await page.click('#uploadImage');
    await allAre('uploaded', 4);
    await page.click('#postData');
    await allAre('saved', 4);
    assert.deepEqual(faults, []);
    await context.close();

    const rows = demo.rows();
    const saved = rows.map((row) => fs.readFileSync(path.join(row.day, row.file)).toString('base64')).sort();
    assert.deepEqual(saved, names.map((name) => fs.readFileSync(name).toString('base64')).sort());
    execFileSync('sha256sum', ['--strict', '-c', 'SHA256SUMS'], { cwd: rows[0].day });
    assert.match(rows[0].file, /\.(jpg|png)$/);
  });
});
