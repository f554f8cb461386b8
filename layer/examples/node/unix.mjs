// Lambda function that calls the sidecar over its Unix socket. Handler: unix.handler
import { request } from "node:http";
import { once } from "node:events";
import { json } from "node:stream/consumers";

export async function handler(event) {
  const call = request({ socketPath: "/tmp/model-sidecar.sock", method: "POST", path: "/predict", agent: false });
  call.end(JSON.stringify({ features: event.features }));
  const [response] = await once(call, "response");
  const answer = await json(response);
  if (response.statusCode !== 200) throw new Error(answer.error);
  return answer;
}
