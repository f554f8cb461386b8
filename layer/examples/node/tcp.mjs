// Lambda function that calls the sidecar over TCP. Handler: tcp.handler
import { request } from "node:http";
import { once } from "node:events";
import { json } from "node:stream/consumers";

export async function handler(event) {
  const port = process.env.MODEL_PORT ?? 2774;
  const call = request({ host: "127.0.0.1", port, method: "POST", path: "/predict", agent: false });
  call.end(JSON.stringify({ features: event.features }));
  const [response] = await once(call, "response");
  const answer = await json(response);
  if (response.statusCode !== 200) throw new Error(answer.error);
  return answer;
}
