// The chat page of `wstunnel demo`. It keeps one WebSocket to /ws open, says how that is going,
// and loses nothing that was typed. Whatever comes from others enters the page as text only.
(function () {
'use strict';

const byID = (id) => document.getElementById(id);
const secure = location.protocol === 'https:';
const socketURL = (secure ? 'wss://' : 'ws://') + location.host + '/ws';

const pingEvery = 3000;      // ms between measurements
const pongWithin = 8000;     // ms until a silent connection counts as lost
const helloWithin = 10000;   // ms from opening the socket to the backend's hello
const stableAfter = 5000;    // ms of connection that end the back-off
const firstDelay = 500, longestDelay = 30000; // ms, the back-off's ends
const sampleCount = 40;
const lineCount = 300;       // lines kept in the log
const groupWithin = 5 * 60000;

// ---- What the tab remembers -------------------------------------------------------------

// Storage may be forbidden; then the page forgets, and works all the same.
function recall(area, key) {
  try { return window[area].getItem('wstunnel-demo-' + key) || ''; } catch { return ''; }
}
function remember(area, key, value) {
  try { window[area].setItem('wstunnel-demo-' + key, value); } catch { /* forgotten */ }
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

function inventName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  return pick(['Calm', 'Amber', 'Quick', 'Mossy', 'Bright', 'Quiet', 'Lucky', 'Silver']) + ' ' +
    pick(['Otter', 'Heron', 'Badger', 'Swift', 'Marten', 'Wren', 'Lynx', 'Finch']);
}

const state = {
  name: 'connecting',        // connecting, open, waiting, stopped
  socket: null,
  session: recall('sessionStorage', 'session') || randomKey(),
  nick: recall('sessionStorage', 'nick') || recall('localStorage', 'nick') || inventName(),
  me: '',                    // our ID, once the backend has said hello
  run: '', lastID: 0,
  limit: 4096,
  config: null, seen: null,
  people: new Map(),         // id -> nick
  colours: new Map(),        // id -> number in hues
  pending: new Map(),        // ref -> {text, item, failed}
  attempt: 0, reconnects: 0, retryAt: 0, delay: 0,
  openedAt: 0, lostAt: 0, lastClose: 'none', trouble: '',
  received: 0, sent: 0,
  samples: [],
  stick: true, unread: 0, missed: 0,
  lastAuthor: '', lastAt: 0,
};
const timers = { hello: 0, pong: 0, stable: 0 };

// ---- The connection ---------------------------------------------------------------------

function connect() {
  state.retryAt = 0;
  setState('connecting');
  const socket = new WebSocket(socketURL);
  state.socket = socket;
  const current = (f) => (event) => { if (state.socket === socket) f(event); };
  socket.onopen = current(() => transmit({ type: 'hello', nick: state.nick, session: state.session }));
  socket.onmessage = current(receive);
  socket.onclose = current((event) => lost(event.code, event.reason));
  timers.hello = setTimeout(() => lost(0, 'no answer within ' + helloWithin / 1000 + ' s'), helloWithin);
}

// transmit reports whether the message could be handed to the browser.
function transmit(message) {
  if (!state.socket || state.socket.readyState !== WebSocket.OPEN) return false;
  state.socket.send(JSON.stringify(message));
  return true;
}

// lost gives up the socket at once, whether or not the browser has noticed yet.
function lost(code, reason) {
  const socket = state.socket;
  state.socket = null;
  for (const name in timers) clearTimeout(timers[name]);
  if (socket) socket.close();
  const wasOpen = state.name === 'open';
  if (code === 4001) state.session = randomKey(); // a copy of this tab has taken over the old one
  state.trouble = describeClose(code, reason);
  if (wasOpen) {
    state.lostAt = Date.now();
    state.lastClose = state.trouble;
  } else if (code === 1006) {
    state.trouble = 'could not connect'; // a browser does not say why
  }
  state.delay = backOff(code);
  state.attempt++;
  byID('path').classList.remove('pulse');
  state.retryAt = Date.now() + state.delay;
  setState('waiting');
  renderPending();
}

function describeClose(code, reason) {
  if (code === 0) return reason;
  const known = { 1006: 'cut without a Close frame' };
  const text = reason || known[code] || '';
  return text ? code + ', ' + text : String(code);
}

// backOff doubles with every attempt. Half of it is random, so that the clients of a server
// that went away do not all come back in the same moment.
function backOff(code) {
  const floor = code === 1008 || code === 1013 ? 5000 : firstDelay;
  const full = Math.min(longestDelay, Math.max(floor, firstDelay * 2 ** state.attempt));
  return full / 2 + Math.random() * full / 2;
}

function reconnectNow() {
  if (state.name === 'waiting') connect();
}

function opened(message) {
  clearTimeout(timers.hello);
  const again = state.me !== '';
  if (again) state.reconnects++;
  timers.stable = setTimeout(() => { state.attempt = 0; }, stableAfter);
  state.openedAt = Date.now();
  state.me = message.you.id;
  state.limit = message.limit;
  state.seen = message.seen;
  remember('sessionStorage', 'session', state.session);
  setState('open');
  showNick(message.you.nick);
  state.people = new Map();
  message.roster.forEach(meet);
  renderPeople();
  catchUp(message, again);
  resendPending();
  setTimeout(ping, 300); // when the page has settled; its own work would be measured otherwise
}

// catchUp adds what the history has and the log has not. Screen readers are spared the reading.
function catchUp(message, again) {
  const log = byID('log');
  log.setAttribute('aria-live', 'off');
  if (message.run !== state.run) {
    if (again) addEvent(['The chat backend was started anew.'], Date.now(), true);
    state.lastID = 0;
  } else if (message.history.length && message.history[0].id > state.lastID + 1) {
    addEvent(['Too much was said in between; some of it is not shown.'], Date.now(), true);
  }
  state.run = message.run;
  for (const said of message.history) addMessage(said);
  if (again && state.lostAt) {
    addEvent(['Connected again after ' + duration(Date.now() - state.lostAt) + '.'], Date.now(), true);
    state.lostAt = 0;
  }
  setTimeout(() => log.setAttribute('aria-live', 'polite'), 500);
}

// ---- What arrives -----------------------------------------------------------------------

const handlers = {
  hello(m) { opened(m); renderPath(); loadConfig(); }, // after a restart the backends have other ports
  chat(m) { state.received++; addMessage(m); },
  pong: measured,
  error: refused,
  join(m) {
    meet(m.who);
    renderPeople();
    if (m.who.id !== state.me) addEvent([isolate(m.who.nick), ' joined'], m.at);
  },
  leave(m) {
    state.people.delete(m.who.id);
    renderPeople();
    addEvent([isolate(m.who.nick), ' left'], m.at);
  },
  nick(m) {
    meet(m.who);
    renderPeople();
    if (m.who.id === state.me) showNick(m.who.nick);
    addEvent([isolate(m.was), ' is now ', isolate(m.who.nick)], m.at);
  },
};

// meet notes who is in the room.
function meet(person) {
  state.people.set(person.id, person.nick);
  state.colours.set(person.id, person.colour);
}

function receive(event) {
  let message;
  try { message = JSON.parse(event.data); } catch { return; }
  if (Object.hasOwn(handlers, message.type)) handlers[message.type](message);
}

function refused(m) {
  const waiting = state.pending.get(m.ref);
  if (waiting) {
    waiting.failed = m.text;
    renderPending();
  }
  notice('The backend refused that: ' + m.text, true);
}

// ---- The log ----------------------------------------------------------------------------

function element(name, className, ...content) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...content); // strings become text nodes
  return e;
}

// isolate keeps a name's writing direction from spilling into the sentence around it.
function isolate(text) { return element('bdi', '', text); }

function clock(at) {
  const date = new Date(at);
  const time = element('time', '', date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  return time;
}

// hues are as far apart as nine can be, and the first ones farther. The backend shares them out.
const hues = [200, 0, 120, 280, 40, 160, 320, 80, 240];

function hueOf(id) { return hues[(state.colours.get(id) || 0) % hues.length]; }

function avatar(id, nick) {
  const words = nick.split(' ').filter(Boolean).map((w) => Array.from(w)[0]);
  const face = element('span', 'avatar', words.slice(0, 2).join('').toUpperCase());
  face.setAttribute('aria-hidden', 'true');
  face.style.setProperty('--hue', hueOf(id));
  return face;
}

function addMessage(m) {
  if (m.id <= state.lastID) return;
  state.lastID = m.id;
  state.colours.set(m.from.id, m.from.colour);
  settle(m.ref);
  const own = m.from.id === state.me;
  const first = m.from.id !== state.lastAuthor || m.at - state.lastAt > groupWithin;
  state.lastAuthor = m.from.id;
  state.lastAt = m.at;
  addLine(messageItem(m, own, first));
  if (!own) countUnread();
}

function messageItem(m, own, first) {
  const item = element('li', 'line' + (own ? ' own' : '') + (first ? ' first' : ''));
  const bubble = element('div', 'bubble');
  const text = element('p', 'text', ...linked(m.text));
  text.dir = 'auto';
  if (first) {
    const who = element('p', 'who', element('strong', '', m.from.nick));
    if (own) who.append(element('span', 'you', 'you'));
    who.append(clock(m.at));
    who.style.setProperty('--hue', hueOf(m.from.id));
    bubble.append(who);
    item.append(avatar(m.from.id, m.from.nick));
  } else {
    item.append(element('span', ''));
    text.title = new Date(m.at).toLocaleString();
  }
  bubble.append(text);
  item.append(bubble);
  return item;
}

// linked makes links of the web addresses in a text. What ends a sentence is no part of them, nor is a bracket that was opened before.
function linked(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(/\bhttps?:\/\/[^\s<>"]+/g)) {
    let url = found[0].replace(/[.,;:!?'*_~]+$/, '');
    if (url.endsWith(')') && !url.includes('(')) url = url.slice(0, -1);
    if (!URL.canParse(url)) continue;
    const link = element('a', '', url);
    link.href = url;
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
    parts.push(text.slice(end, found.index), link);
    end = found.index + url.length;
  }
  parts.push(text.slice(end));
  return parts;
}

function addEvent(content, at, gap) {
  state.lastAuthor = '';
  addLine(element('li', 'event' + (gap ? ' gap' : ''), element('p', '', ...content, clock(at))));
}

function addLine(item) {
  const lines = byID('lines');
  lines.append(item);
  while (lines.childElementCount > lineCount) lines.firstElementChild.remove();
  byID('empty').classList.remove('shown');
  if (state.stick) scrollDown();
}

function scrollDown() {
  const log = byID('log');
  log.scrollTop = log.scrollHeight;
}

// countUnread notes a message that the reader does not see yet.
function countUnread() {
  if (document.hidden) document.title = '(' + ++state.unread + ') wstunnel demo chat';
  if (!state.stick) state.missed++;
  renderNewest();
}

function renderNewest() {
  byID('newest').hidden = state.stick;
  byID('newest-name').textContent = state.missed ? state.missed + (state.missed === 1 ? ' new message' : ' new messages') : 'Newest';
}

function scrolled() {
  const log = byID('log');
  state.stick = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
  if (state.stick) state.missed = 0;
  renderNewest();
}

// ---- Messages on their way --------------------------------------------------------------

// say sends a message; without a connection it waits, and goes out with the next one.
function say(text) {
  const ref = randomKey().slice(0, 16);
  state.pending.set(ref, { text, failed: '' });
  transmit({ type: 'chat', text, ref });
  state.sent++;
  renderPending();
  state.stick = true;
  scrollDown();
}

// settle forgets a message that has come back from the backend.
function settle(ref) {
  if (ref && state.pending.delete(ref)) renderPending();
}

// resendPending sends again what was under way when the connection broke. What the backend had
// received is known from its history by now.
function resendPending() {
  for (const [ref, p] of state.pending) {
    if (!p.failed) transmit({ type: 'chat', text: p.text, ref });
  }
  renderPending();
}

// recallPending brings back what waited when the tab was loaded anew.
function recallPending() {
  let kept = [];
  try { kept = JSON.parse(recall('sessionStorage', 'pending') || '[]'); } catch { /* not ours */ }
  for (const [ref, text] of kept) state.pending.set(ref, { text, failed: '' });
}

function renderPending() {
  remember('sessionStorage', 'pending', JSON.stringify([...state.pending].map(([ref, p]) => [ref, p.text])));
  const items = [];
  for (const [ref, p] of state.pending) items.push(pendingItem(ref, p));
  byID('pending').replaceChildren(...items);
  if (items.length) byID('empty').classList.remove('shown');
  if (state.stick) scrollDown();
}

function pendingItem(ref, p) {
  const text = element('p', 'text', ...linked(p.text));
  text.dir = 'auto';
  const mail = element('p', 'mail');
  if (p.failed) {
    mail.append('Not sent: ' + p.failed,
      button('Send again', () => { p.failed = ''; transmit({ type: 'chat', text: p.text, ref }); renderPending(); focusText(); }),
      button('Discard', () => { state.pending.delete(ref); renderPending(); focusText(); }));
  } else {
    mail.append(state.name === 'open' ? 'Sending' : 'Will be sent when the connection is back');
  }
  return element('li', 'line pending' + (p.failed ? ' failed' : ''), element('span', ''), element('div', 'bubble', text, mail));
}

function button(name, act) {
  const b = element('button', '', name);
  b.type = 'button';
  b.addEventListener('click', act);
  return b;
}

// ---- The composer -----------------------------------------------------------------------

function focusText() { byID('text').focus(); }

function notice(text, bad) {
  const n = byID('notice');
  n.textContent = text;
  n.classList.toggle('bad', Boolean(bad));
}

// excess is by how many bytes a text is too long for one message.
function excess(text) {
  const message = JSON.stringify({ type: 'chat', text, ref: '0123456789abcdef' });
  return new TextEncoder().encode(message).length - state.limit;
}

function submit(event) {
  event.preventDefault();
  const box = byID('text');
  const text = box.value.trim();
  if (!text) return;
  if (state.name === 'stopped') {
    notice('There is no socket at this address, so the message stays in the box.', true);
    return;
  }
  const over = excess(text);
  if (over > 0) {
    notice('Too long by ' + over + ' bytes; the backend takes ' + state.limit + '.', true);
    return;
  }
  say(text);
  box.value = '';
  notice('');
  typed();
}

function typed() {
  const box = byID('text');
  remember('sessionStorage', 'draft', box.value);
  box.style.height = 'auto';
  box.style.height = box.scrollHeight + 'px';
  const left = -excess(box.value.trim());
  if (left < 600) notice(left < 0 ? 'Too long by ' + -left + ' bytes.' : left + ' bytes left.', left < 0);
  else notice('');
}

function keyInText(event) {
  const composing = event.isComposing || event.keyCode === 229; // an input method is at work
  if (event.key === 'Enter' && !event.shiftKey && !composing) {
    event.preventDefault();
    byID('composer').requestSubmit();
  }
}

function showNick(nick) {
  const input = byID('nick');
  if (document.activeElement !== input) input.value = nick;
}

function changeNick() {
  const nick = byID('nick').value.trim();
  if (!nick) {
    byID('nick').value = state.people.get(state.me) || state.nick;
    return;
  }
  if (nick === state.people.get(state.me)) return;
  state.nick = nick;
  remember('localStorage', 'nick', nick);
  remember('sessionStorage', 'nick', nick);
  transmit({ type: 'nick', nick });
}

function keyInNick(event) {
  if (event.key !== 'Enter') return;
  event.preventDefault();
  changeNick();
  focusText();
}

// ---- Round trips ------------------------------------------------------------------------

function ping() {
  if (state.name !== 'open' || document.hidden) return;
  if (!transmit({ type: 'ping', t: performance.now() })) return;
  const path = byID('path');
  path.classList.remove('pulse');
  void path.offsetWidth; // starts the animation anew
  path.classList.add('pulse');
  clearTimeout(timers.pong);
  const due = Date.now() + pongWithin;
  timers.pong = setTimeout(() => {
    // A timer that is this late slept with the computer, and the answer may just be arriving.
    if (Date.now() > due + 3000) ping();
    else lost(0, 'no answer for ' + pongWithin / 1000 + ' s');
  }, pongWithin);
}

function measured(m) {
  clearTimeout(timers.pong);
  state.samples.push(Math.max(0, performance.now() - m.t));
  if (state.samples.length > sampleCount) state.samples.shift();
  renderTrip();
}

function milliseconds(v) { return v < 9.95 ? v.toFixed(1) : String(Math.round(v)); }

function renderTrip() {
  const samples = state.samples;
  const sorted = [...samples].sort((a, b) => a - b);
  const slowest = sorted[sorted.length - 1];
  byID('rtt').textContent = milliseconds(samples[samples.length - 1]);
  byID('fact-median').textContent = milliseconds(sorted[Math.floor(sorted.length / 2)]) + ' ms';
  byID('fact-slowest').textContent = milliseconds(slowest) + ' ms';
  byID('spark').setAttribute('aria-label',
    'The last ' + samples.length + ' round trips took ' + milliseconds(sorted[0]) + ' to ' + milliseconds(slowest) + ' ms');
  const step = 160 / (sampleCount - 1);
  const left = 160 - (samples.length - 1) * step;
  const points = samples.map((v, i) => (left + i * step).toFixed(1) + ' ' + (42 - 38 * v / Math.max(slowest, 1)).toFixed(1));
  if (points.length === 1) points.unshift('158 ' + points[0].split(' ')[1]);
  byID('spark-line').setAttribute('d', 'M' + points.join('L'));
  byID('spark-area').setAttribute('d', 'M' + points.join('L') + 'V44H' + points[0].split(' ')[0] + 'Z');
}

// ---- What the page says about itself ----------------------------------------------------

function setState(name) {
  const before = state.name;
  state.name = name;
  document.body.dataset.state = name;
  byID('state').textContent = { connecting: 'Connecting', open: 'Connected', waiting: 'Disconnected', stopped: 'No socket here' }[name];
  byID('send').setAttribute('aria-disabled', String(name === 'stopped'));
  if (name === 'open') {
    byID('empty').classList.toggle('shown', !byID('lines').childElementCount && !state.pending.size);
    if (state.me && state.reconnects) announce('Connected again.');
    notice('');
  } else if (before === 'open') {
    announce('Connection lost. What you send waits until it is back.');
  }
  renderBanner();
  tick();
}

function announce(text) { byID('announce').textContent = text; }

function renderBanner() {
  const banner = byID('banner');
  const show = state.name === 'waiting' || (state.name === 'connecting' && state.attempt > 0);
  if (!show && banner.contains(document.activeElement)) focusText();
  banner.hidden = !show;
  byID('reconnect').setAttribute('aria-disabled', String(state.name === 'connecting'));
  if (!show) return;
  byID('banner-title').textContent = (state.me ? 'Connection lost' : 'No connection') + (state.trouble ? ': ' + state.trouble + '.' : '.');
  if (state.stick) scrollDown();
}

function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min ' + s % 60 + ' s';
  return Math.floor(s / 3600) + ' h ' + Math.floor(s % 3600 / 60) + ' min';
}

// tick refreshes what changes with time, and starts the next attempt when it is due.
function tick() {
  byID('fact-age').textContent = state.name === 'open' ? duration(Date.now() - state.openedAt) : '–';
  byID('fact-reconnects').textContent = state.reconnects;
  byID('fact-messages').textContent = state.received + ' / ' + state.sent;
  byID('fact-close').textContent = state.lastClose;
  if (state.name === 'connecting') byID('banner-text').textContent = 'Trying again, attempt ' + state.attempt + '.';
  if (state.name !== 'waiting') return;
  const left = state.retryAt - Date.now();
  if (left <= 0) {
    connect();
    return;
  }
  byID('banner-text').textContent = 'Attempt ' + state.attempt + ' in ' + Math.ceil(left / 1000) + ' s. What you send waits.';
}

function renderPeople() {
  const people = [...state.people].sort((a, b) => (b[0] === state.me) - (a[0] === state.me) || a[1].localeCompare(b[1]));
  byID('people').replaceChildren(...people.map(([id, nick]) => {
    const item = element('li', '', avatar(id, nick), isolate(nick));
    if (id === state.me) item.append(element('span', 'you', 'you'));
    return item;
  }));
  byID('people-count').textContent = byID('people-badge').textContent = people.length;
}

// standing says what this page was served by, as far as it can know.
function standing() {
  const c = state.config;
  const port = Number(location.port || (secure ? 443 : 80));
  if (!c) return 'unknown';
  if (location.host === c.site) return 'direct';
  return port === (secure ? c.httpsPort : c.httpPort) ? 'wstunnel' : 'unknown';
}

function renderPath() {
  const where = standing();
  const via = (performance.getEntriesByType('navigation')[0] || {}).nextHopProtocol || '';
  const front = { direct: 'The embedded site', wstunnel: 'wstunnel', unknown: 'The server' }[where];
  const scheme = secure ? 'https' : 'http';
  const how = via && via !== 'http/1.1' ? scheme + ' (' + via + ')' : scheme;
  byID('stop-browser').textContent = 'loaded this page over ' + how;
  byID('stop-front-name').textContent = front;
  byID('stop-front').textContent = location.host;
  byID('leg-front').classList.toggle('private', secure);
  byID('leg-front-name').textContent = socketURL;
  if (!state.config) return;
  byID('leg-back-name').textContent = where === 'direct' ? 'not joined' : 'ws://' + chatAddress() + '/ws';
  byID('stop-back').textContent = where === 'direct' ? state.config.chat : backendNote();
  byID('explain').textContent = explanation(where, how, front);
}

// chatAddress is where the backend says that it is, which is known better than what was so when the page was loaded.
function chatAddress() { return state.seen ? state.seen.backend : state.config.chat; }

function backendNote() {
  const s = state.seen;
  if (!s) return state.config.chat;
  return s.backend + (s.forwardedFor ? ', was told you are ' + s.forwardedFor : ', connected from ' + s.peer);
}

function explanation(where, how, front) {
  if (where === 'direct') {
    return 'You came to the embedded site itself, past wstunnel, so there is no /ws at ' + location.host +
      '. Open 127.0.0.1:' + state.config.httpPort + ' instead.';
  }
  const lock = secure ? 'The dashed part stays on the machine that runs the demo.' : 'Nothing on the way is encrypted.';
  const verb = where === 'wstunnel' ? ', spliced to ' : ', which ends at ';
  return 'This page came over ' + how + ' from ' + front.replace('The', 'the') + '; the socket is ' + socketURL + verb + chatAddress() + '. ' + lock;
}

function renderLinks() {
  const c = state.config;
  const port = secure ? c.httpPort : c.httpsPort;
  byID('switch').href = (secure ? 'http://' : 'https://') + location.hostname + ':' + port + '/';
  byID('switch').textContent = secure ? 'Open over plain http' : 'Open over https';
  byID('switch-note').textContent = secure
    ? 'The same chat on port ' + port + ', with ws:// and no padlock.'
    : 'The same chat on port ' + port + ', with wss:// and a padlock. Browsers warn until the local CA is trusted.';
  byID('switch-item').hidden = standing() === 'direct';
  byID('ca').href = c.ca;
}

async function loadConfig() {
  try {
    const answer = await fetch('/config.json');
    if (!answer.ok) return;
    state.config = await answer.json();
  } catch {
    return; // the panel then says less
  }
  renderLinks();
  renderPath();
}

// ---- The sheet on narrow screens --------------------------------------------------------

function setPanel(open) {
  document.body.classList.toggle('panel-open', open);
  byID('panel-toggle').setAttribute('aria-expanded', String(open));
  byID('panel-toggle-name').textContent = open ? 'Close' : 'Details';
  if (!open && state.stick) scrollDown();
}

function keyOnPage(event) {
  if (event.key !== 'Escape' || !document.body.classList.contains('panel-open')) return;
  setPanel(false);
  byID('panel-toggle').focus();
}

// ---- Start ------------------------------------------------------------------------------

function listen() {
  byID('log').addEventListener('scroll', scrolled, { passive: true });
  byID('newest').addEventListener('click', () => { state.stick = true; scrollDown(); scrolled(); focusText(); });
  byID('reconnect').addEventListener('click', reconnectNow);
  byID('composer').addEventListener('submit', submit);
  byID('text').addEventListener('keydown', keyInText);
  byID('text').addEventListener('keypress', (event) => { // some input tools send it apart from keydown
    if (event.key === 'Enter' && !event.shiftKey) event.preventDefault();
  });
  byID('text').addEventListener('input', typed);
  byID('nick').addEventListener('change', changeNick);
  byID('nick').addEventListener('keydown', keyInNick);
  byID('panel-toggle').addEventListener('click', () => setPanel(!document.body.classList.contains('panel-open')));
  document.querySelector('.skip').addEventListener('click', () => setPanel(false));
  document.addEventListener('keydown', keyOnPage);
  window.addEventListener('online', reconnectNow);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    state.unread = 0;
    document.title = 'wstunnel demo chat';
    reconnectNow();
    ping();
  });
  new ResizeObserver(() => { if (state.stick) scrollDown(); }).observe(byID('log'));
  setInterval(tick, 250);
  setInterval(ping, pingEvery);
}

async function start() {
  document.documentElement.classList.toggle('secure', secure);
  byID('scheme-name').textContent = secure ? 'wss://' : 'ws://';
  byID('scheme-note').textContent = secure ? ', encrypted' : ', not encrypted';
  byID('scheme').title = secure ? 'The socket is encrypted' : 'The socket is not encrypted';
  byID('nick').value = state.nick;
  remember('sessionStorage', 'nick', state.nick);
  byID('text').value = recall('sessionStorage', 'draft');
  recallPending();
  renderPending();
  listen();
  typed();
  renderPath();
  await loadConfig();
  if (standing() === 'direct') setState('stopped');
  else connect();
}

start();
})();
