'use strict';
// The one place that says what the page's cases run against: today the stand-in of stub.js. To run them against the program,
// return the same handles from a started binary and its simulator.
const crypto = require('node:crypto');
const { createBox } = require('./stub.js');

async function start() {
  const box = createBox();
  const url = await box.listen();
  return {
    url, // origin, without a slash at the end
    pagePath: '/uploadImgDemo',
    // What WeChat would answer to an upload. state: 'saved', 'waiting' or 'failed' (then with a reason).
    async newMediaId(state, reason) {
      const id = crypto.randomBytes(48).toString('base64url');
      box.setFate(id, state || 'saved', reason);
      return id;
    },
    async setFate(id, state, reason) { box.setFate(id, state, reason); },
    // Accepted submissions: { ids, team, contributor, note, latitude, longitude }.
    async submissions() { return box.submissions; },
    stop: () => box.close(),
  };
}

module.exports = { start };
