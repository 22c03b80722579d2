'use strict';
// All cases but the operator's in one process, so that they share one browser and one box. `node --test page.test.js` runs
// one file by itself.
for (const part of ['core', 'seed', 'demo', 'look', 'page']) require(`./${part}.test.js`);
