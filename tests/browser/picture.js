'use strict';
// Small real pictures, each unlike the others.
const zlib = require('node:zlib');
const crypto = require('node:crypto');

function chunk(name, body) {
  const text = Buffer.concat([Buffer.from(name, 'latin1'), body]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(body.length, 0);
  frame.writeUInt32BE(crc32(text), 4);
  return Buffer.concat([frame.subarray(0, 4), text, frame.subarray(4)]);
}
// As PNG asks for it (RFC 2083, appendix 15).
function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// A PNG of random colours.
function picture(side = 8) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head.set([8, 2], 8); // 8 bits, RGB
  const rows = Array.from({ length: side }, () => Buffer.concat([Buffer.alloc(1), crypto.randomBytes(side * 3)]));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk('IHDR', head), chunk('IDAT', zlib.deflateSync(Buffer.concat(rows))), chunk('IEND', Buffer.alloc(0))]);
}

module.exports = { picture };
