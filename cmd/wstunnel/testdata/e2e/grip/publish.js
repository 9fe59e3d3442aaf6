// Publishes with the library that backends of Pushpin and of Fastly Fanout use, as its manual says:
//
//     GRIP_URL='http://127.0.0.1:9181/?key=TOKEN' node publish.js CHANNEL
import {Item, Publisher, WebSocketMessageFormat} from '@fanoutio/grip';

const publisher = new Publisher(process.env.GRIP_URL);
const publish = format => publisher.publishFormats(process.argv[2], format);
await publish(new WebSocketMessageFormat('grüße'));
await publish(new WebSocketMessageFormat(Uint8Array.of(0, 255)));
await publisher.publishHttpStream(process.argv[2], 'for others'); // which no WebSocket gets
await publish(new WebSocketMessageFormat(null, true, 4002));
console.log('published');
