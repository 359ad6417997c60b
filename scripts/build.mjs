// `npm run build`: compiles the sources into dist, and notes from which.
import { build } from './setup.mjs';

build();
