'use strict';
// A stand-in for jweixin with its quirks, for the browser. `window.__wxPlan` says what goes wrong; `window.__wx` tells what
// was called. Server ids come from the test by the binding `__newMediaId`.
(function () {
  const plan = Object.assign({
    platform: 'android', // 'ios': wxLocalResource ids, "jgp" previews
    configs: [], // outcome of each config call in turn: 'ok' (default), 'silent', or an error text
    errorHandler: true, // false: the error handler is never called, as for clients from 10.0
    choices: [], // what each chooseImage gives: a number (default 3), 'cancel', or an error text
    uploads: {}, // by picture number (from 1), a list for its tries: 'ok', 'hang', 'late', 'cancel', or an error text
    previews: {}, // by picture number: 'empty', 'hang'
    asText: false, // localIds as a JSON string
    late: false, // true: window.wx appears when the test calls window.__appear()
    uploadMs: 15,
    network: 'wifi', location: { latitude: 31.230416, longitude: 121.473701, accuracy: 20 },
  }, window.__wxPlan);
  const log = { configs: [], chosen: [], uploads: [], tips: [], overlap: 0, previewOverlap: 0, previews: 0 };
  window.__wx = log;

  let state = 0; // never goes back to 0, as in the real script
  let onFail = null;
  let completes = [];
  let pictures = 0;
  let uploading = 0;
  let previewing = 0;
  const byLocalId = {};
  const after = (ms, f) => setTimeout(f, ms);

  function finish(api, args, text, fields) {
    const result = Object.assign({ errMsg: api + ':' + text }, fields);
    if (text === 'ok') { if (args.success) args.success(result); }
    else if (text === 'cancel') { if (args.cancel) args.cancel(result); }
    else if (args.fail) args.fail(result);
    if (args.complete) args.complete(result);
  }

  const COLOURS = ['#2f6f8f', '#8f5a2f', '#4c7a34', '#7a3460', '#2c5a4a', '#a0782c'];
  function draw(n, side) {
    const canvas = document.createElement('canvas');
    canvas.width = side * 1.5;
    canvas.height = side;
    const c = canvas.getContext('2d');
    const sky = c.createLinearGradient(0, 0, 0, side);
    sky.addColorStop(0, COLOURS[n % COLOURS.length]);
    sky.addColorStop(1, '#e9e2cf');
    c.fillStyle = sky;
    c.fillRect(0, 0, side * 1.5, side);
    c.fillStyle = COLOURS[(n + 3) % COLOURS.length];
    c.beginPath();
    c.moveTo(0, side);
    c.lineTo(side * (0.3 + (n % 4) / 8), side * 0.4);
    c.lineTo(side * 1.5, side);
    c.fill();
    return canvas.toDataURL('image/jpeg', 0.7);
  }
  function newLocalId() {
    const n = ++pictures;
    const id = plan.platform === 'ios' ? 'wxLocalResource://imageid' + n : 'weixin://resourceid/' + n;
    byLocalId[id] = { n, tries: 0 };
    return id;
  }

  const wx = {
    config(args) {
      const outcome = plan.configs[log.configs.length] || 'ok';
      log.configs.push(args);
      if (outcome === 'silent') return;
      after(5, () => {
        state = 1;
        if (outcome !== 'ok' && plan.errorHandler && onFail) onFail({ errMsg: 'config:' + outcome });
        completes.splice(0).forEach((f) => f()); // after a failure too
      });
    },
    ready(f) { if (state) f(); else completes.push(f); },
    error(f) { onFail = f; },
    checkJsApi(args) { after(2, () => finish('checkJsApi', args, 'ok', { checkResult: { chooseImage: true } })); },
    chooseImage(args) {
      const choice = plan.choices[log.chosen.length] || 3;
      log.chosen.push(args);
      after(5, () => {
        if (typeof choice === 'string') return finish('chooseImage', args, choice);
        const ids = Array.from({ length: choice }, newLocalId);
        return finish('chooseImage', args, 'ok', { localIds: plan.asText ? JSON.stringify(ids) : ids });
      });
    },
    uploadImage(args) {
      const picture = byLocalId[args.localId];
      log.tips.push(args.isShowProgressTips);
      if (!picture) return finish('uploadImage', args, 'fail:no such localId');
      log.uploads.push(picture.n);
      if (uploading) { log.overlap += 1; return undefined; } // iOS: of two calls at once only one ever returns
      const outcome = (plan.uploads[picture.n] || [])[picture.tries++] || 'ok';
      if (outcome === 'hang') return undefined;
      uploading += 1;
      const arrive = async (always) => {
        uploading = Math.max(0, uploading - 1);
        if (always || outcome === 'ok') return finish('uploadImage', args, 'ok', { serverId: await window.__newMediaId(picture.n) });
        return finish('uploadImage', args, outcome);
      };
      if (outcome === 'late') { uploading -= 1; window.__arriveLate = () => arrive(true); return undefined; }
      return after(plan.uploadMs, () => arrive(false));
    },
    getLocalImgData(args) {
      const picture = byLocalId[args.localId];
      if (previewing) log.previewOverlap += 1;
      const outcome = plan.previews[picture.n];
      log.previews += 1;
      if (outcome === 'hang') return;
      previewing += 1;
      after(10, () => {
        previewing -= 1;
        const bare = draw(picture.n, 500).split(',')[1];
        const data = plan.platform === 'ios' ? 'data:image/jgp;base64,' + bare : bare.replace(/(.{76})/g, '$1\n');
        finish('getLocalImgData', args, 'ok', { localData: outcome === 'empty' ? '' : data });
      });
    },
    getNetworkType(args) { after(2, () => finish('getNetworkType', args, 'ok', { networkType: plan.network })); },
    getLocation(args) {
      after(5, () => finish('getLocation', args, plan.location ? 'ok' : 'fail:location off', Object.assign({ type: args.type }, plan.location)));
    },
  };
  if (plan.late) window.__appear = () => { window.wx = wx; };
  else window.wx = wx;
})();
