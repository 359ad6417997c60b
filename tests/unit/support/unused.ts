import {
  type BinaryExpression,
  type BindingElement,
  type ClassDeclaration,
  type Identifier,
  type LiteralTypeNode,
  type Node,
  type PropertyAccessExpression,
  SyntaxKind,
  type TypeReferenceNode,
} from 'typescript/unstable/ast';
import { API, type Checker, type Symbol as Meaning } from 'typescript/unstable/sync';

interface Found {
  members: { of: string; name: Identifier }[];
  uses: Use[];
  variants: { file: string; text: string }[];
  /** Strings that stand where a value is made. */
  made: Set<string>;
}

interface Use {
  name: string;
  node: Node;
  /** `node` is the pattern that takes something apart, `name` what it takes of it. */
  isPattern: boolean;
}

/**
 * What stands in src/ and nobody uses, tests included, and neither compiler nor linter tells: public members
 * of classes, and strings in unions of types that nothing ever makes. `root`: the project's folder, with its
 * slash.
 */
export function findUnused(root: string): { members: string[]; variants: string[] } {
  const api = new API({ cwd: root });
  try {
    const [project] = api.updateSnapshot({ openProject: `${root}tsconfig.json` }).getProjects();
    if (!project) throw new Error('the compiler opens no project');
    const found: Found = { members: [], uses: [], variants: [], made: new Set() };
    for (const path of project.rootFiles) {
      const source = project.program.getSourceFile(path);
      if (source) walk(source, path.slice(root.length), found);
    }
    return { members: unusedMembers(project.checker, found), variants: unusedVariants(found) };
  } finally {
    api.close();
  }
}

function walk(node: Node, file: string, found: Found): void {
  const isOurs = file.startsWith('src/');
  switch (node.kind) {
    case SyntaxKind.PropertyAccessExpression: {
      const { name } = node as PropertyAccessExpression;
      found.uses.push({ name: name.text, node: name, isPattern: false });
      break;
    }
    case SyntaxKind.BindingElement: {
      const { propertyName, name, parent } = node as BindingElement;
      if (parent.kind === SyntaxKind.ObjectBindingPattern)
        found.uses.push({ name: textOf(propertyName ?? name), node: parent, isPattern: true });
      break;
    }
    case SyntaxKind.ClassDeclaration: {
      const { name: className, members } = node as ClassDeclaration;
      const of = `${file}: ${textOf(className)}`;
      for (const { name } of isOurs ? (members as readonly { name?: Node }[]) : [])
        if (name?.kind === SyntaxKind.Identifier) found.members.push({ of, name: name as Identifier });
      break;
    }
    case SyntaxKind.LiteralType: {
      const { literal } = node as LiteralTypeNode;
      const isText = literal.kind === SyntaxKind.StringLiteral;
      if (isOurs && isText && isChoice(node.parent)) found.variants.push({ file, text: textOf(literal) });
      return;
    }
    case SyntaxKind.ImportDeclaration:
      return;
    case SyntaxKind.StringLiteral:
    case SyntaxKind.NoSubstitutionTemplateLiteral:
    case SyntaxKind.TemplateHead:
    case SyntaxKind.TemplateMiddle:
    case SyntaxKind.TemplateTail:
      if (!isCompared(node)) found.made.add(textOf(node));
      break;
  }
  node.forEachChild((child) => walk(child, file, found));
}

function textOf(node: Node | undefined): string {
  return (node as Partial<Identifier> | undefined)?.text ?? '';
}

const NAMES_FIELDS = new Set(['Pick', 'Omit', 'Exclude']);

/** A union of values, or what tells one kind of a record from others; not the names of fields. */
function isChoice(node: Node): boolean {
  if (node.kind === SyntaxKind.PropertySignature) return true;
  const { kind, parent } = node;
  return kind === SyntaxKind.UnionType && !NAMES_FIELDS.has(textOf((parent as Partial<TypeReferenceNode>).typeName));
}

/** `x === 'a'` and `case 'a'` look for what others have made. */
function isCompared({ parent }: Node): boolean {
  if (parent.kind === SyntaxKind.CaseClause) return true;
  if (parent.kind !== SyntaxKind.BinaryExpression) return false;
  const operator = (parent as BinaryExpression).operatorToken.kind;
  return operator === SyntaxKind.EqualsEqualsEqualsToken || operator === SyntaxKind.ExclamationEqualsEqualsToken;
}

/**
 * A member counts as used where its name is asked of its class, or of something that is no class of ours: an
 * interface it may stand behind.
 */
function unusedMembers(checker: Checker, { members, uses }: Found): string[] {
  const names = new Set(members.map(({ name }) => name.text));
  const used = usedMeanings(
    checker,
    uses.filter(({ name }) => names.has(name)),
  );
  const own = checker.getSymbolAtLocation(members.map(({ name }) => name));
  const ofClasses = new Set(own.map((meaning) => meaning?.id));
  return members.flatMap(({ of, name }, at) => {
    const isUsed = used.some((m) => m.name === name.text && (m.id === own[at]?.id || !ofClasses.has(m.id)));
    return isUsed ? [] : [`${of}.${name.text}`];
  });
}

function usedMeanings(checker: Checker, uses: Use[]): Meaning[] {
  const accesses = uses.filter(({ isPattern }) => !isPattern).map(({ node }) => node);
  const patterns = uses.filter(({ isPattern }) => isPattern);
  const takenApart = checker.getTypeAtLocation(patterns.map(({ node }) => node));
  const taken = patterns.map(({ name }, at) => {
    const type = takenApart[at];
    return type && checker.getPropertyOfType(type, name);
  });
  const meanings = [...checker.getSymbolAtLocation(accesses), ...taken].filter((m) => m !== undefined);
  return [...new Map(meanings.filter(isWritten).map((m) => [m.id, m])).values()];
}

/** In this project: what others' libraries call `get` says nothing of ours. */
function isWritten({ declarations }: Meaning): boolean {
  return declarations.some(({ path }) => /\/(src|tests|bench)\//.test(path) && !path.includes('/node_modules/'));
}

/**
 * Made by a string of its own, in a text for a program that answers with it (SQL), or behind a colon, as
 * units of columns are given.
 */
function unusedVariants({ variants, made }: Found): string[] {
  const texts = [...made];
  const isMade = (text: string) =>
    made.has(text) || texts.some((t) => t.includes(`'${text}'`) || t.endsWith(`:${text}`) || t.startsWith(`${text}:`));
  return variants.filter(({ text }) => !isMade(text)).map(({ file, text }) => `${file}: '${text}'`);
}
