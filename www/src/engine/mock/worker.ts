/** The mock host in a worker, for `LORAHUB_ENGINE=mock npm run dev`. */
import { serve, type Port } from '../serve.ts';
import { mockHost } from './host.ts';

serve(globalThis as unknown as Port, mockHost({ gpu: true }));
